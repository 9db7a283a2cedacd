import type { FloatDType } from "../../libs/kernels/src/webgpu/wgsl-operands.ts";

/**
 * Random values of a float dtype that a kernel (`fill.wgsl`) and this code compute alike from an element's index, so
 * that a result can be checked without downloading gigabytes. Uniform in [-scale, scale), every mantissa bit in use,
 * exact in the dtype; `scale` is a power of two.
 */
export interface RandomValues {
  readonly dtype: FloatDType;
  readonly seed: number;
  readonly scale: number;
}

/** The element at `index`. */
export function randomValue({ dtype, seed, scale }: RandomValues, index: number): number {
  if (dtype === "f32") return ((hash(index + seed) >>> 8) / 2 ** 23 - 1) * scale;
  const half = (hash((index >>> 1) + seed) >>> ((index & 1) * 16)) & 0xffff;
  return dtype === "f16" ? ((half & 0x7ff) / 1024 - 1) * scale : ((half & 0xff) / 128 - 1) * scale;
}

function hash(index: number): number {
  let h = Math.imul(index, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** A permutation of [0, count). */
export function shuffled(count: number): Int32Array {
  const order = Int32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const other = Math.floor(((randomValue({ dtype: "f32", seed: 31, scale: 1 }, i) + 1) / 2) * (i + 1));
    [order[i], order[other]] = [order[other] ?? 0, order[i] ?? 0];
  }
  return order;
}
