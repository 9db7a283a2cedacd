import { type Allocator, type DType, isFloatDType, Tensor } from "@lockstep/tensor";

/** How a test tensor lies in memory; the numbers are the same. */
export type Layout =
  /** Row-major without gaps. */
  | "contiguous"
  /** Row-major with gaps between the rows of the last dimension. */
  | "gaps"
  /** Row-major, every second element of the last dimension. */
  | "every-second"
  /** The first two dimensions exchanged in memory. */
  | "transposed"
  /** The first and the last dimension exchanged in memory. */
  | "columns-first";

/** A tensor of the given layout whose elements, and whose gaps, hold NaN (0 for integers). */
export function emptyStrided(allocator: Allocator, dtype: DType, shape: readonly number[], layout: Layout): Tensor {
  const last = shape.length - 1;
  const size = shape[last] ?? 0;
  const poison = isFloatDType(dtype) ? Number.NaN : 0;
  const make = (stored: readonly number[]): Tensor => Tensor.empty(allocator, dtype, stored).fill(poison);
  const swapped = (a: number, b: number): number[] =>
    shape.map((old, dim) => (dim === a ? (shape[b] ?? 0) : dim === b ? (shape[a] ?? 0) : old));
  switch (layout) {
    case "contiguous":
      return make(shape);
    case "gaps":
      return make([...shape.slice(0, last), size + 5]).slice(last, 2, 2 + size);
    case "every-second":
      return make([...shape.slice(0, last), 2 * size]).slice(last, 0, 2 * size, 2);
    case "transposed":
      return shape.length < 2 ? make(shape) : make(swapped(0, 1)).transpose(0, 1);
    case "columns-first":
      return shape.length < 2 ? make(shape) : make(swapped(0, last)).transpose(0, last);
  }
}

/** A tensor of the given layout holding `values` in row-major order. */
export function strided(
  allocator: Allocator,
  dtype: DType,
  shape: readonly number[],
  values: ArrayLike<number>,
  layout: Layout = "contiguous",
): Tensor {
  return emptyStrided(allocator, dtype, shape, layout).set(values);
}
