import { type Allocator, type DType, Tensor } from "@lockstep/tensor";

/** A tensor of values in [-scale, scale) that follow from `seed`: every rank and every run draws the same. */
export function repeatableTensor(
  allocator: Allocator,
  dtype: DType,
  shape: readonly number[],
  seed: number,
  scale = 1,
): Tensor {
  const tensor = Tensor.empty(allocator, dtype, shape);
  let state = seed;
  return tensor.set(
    Float64Array.from({ length: tensor.size }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return scale * (state / 2 ** 31 - 1);
    }),
  );
}
