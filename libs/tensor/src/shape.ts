import { describe } from "./describe.ts";
import { ArgumentError } from "./errors.ts";

/** Number of elements of a shape (1 for a scalar shape []). */
export function elementCount(shape: readonly number[]): number {
  let count = 1;
  for (const size of shape) count *= size;
  return count;
}

/** Row-major strides of a shape, in elements. */
export function contiguousStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let dim = shape.length - 1; dim >= 0; dim--) {
    strides[dim] = step;
    step *= Math.max(1, shape[dim] ?? 1);
  }
  return strides;
}

/** True when elements lie in row-major order without gaps; strides of dimensions of size 1 do not matter. */
export function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  if (shape.includes(0)) return true;
  let step = 1;
  for (let dim = shape.length - 1; dim >= 0; dim--) {
    const size = shape[dim] ?? 0;
    if (size !== 1 && strides[dim] !== step) return false;
    step *= size;
  }
  return true;
}

/** Elements from the first to one past the last element that a strided view touches (0 when it has none). */
export function spannedElements(shape: readonly number[], strides: readonly number[]): number {
  let last = 0;
  for (let dim = 0; dim < shape.length; dim++) {
    const size = shape[dim] ?? 0;
    if (size === 0) return 0;
    last += (size - 1) * (strides[dim] ?? 0);
  }
  return last + 1;
}

/** Throws unless `shape` is a list of non-negative integers whose product can be counted. */
export function checkShape(operation: string, argument: string, shape: readonly number[]): void {
  checkSizes(operation, argument, shape);
  let count = 1;
  for (const size of shape) count *= Math.max(1, size);
  if (count > Number.MAX_SAFE_INTEGER) {
    throw new ArgumentError(operation, argument, "of at most 2^53 - 1 elements", formatShape(shape));
  }
}

/** Throws unless `sizes` is a list of non-negative integers. */
export function checkSizes(operation: string, argument: string, sizes: readonly number[]): void {
  const expected = "a list of non-negative integers";
  if (!Array.isArray(sizes)) throw new ArgumentError(operation, argument, expected, describe(sizes));
  for (const size of sizes as readonly unknown[]) {
    if (!Number.isSafeInteger(size) || Number(size) < 0) {
      throw new ArgumentError(operation, argument, expected, `[${sizes.map(describe).join(", ")}]`);
    }
  }
}

/** `[2, 3]` */
export function formatShape(shape: readonly number[]): string {
  return `[${shape.join(", ")}]`;
}

/** Calls `visit` with the element offset of every element of a strided view, in row-major order. */
export function forEachOffset(
  shape: readonly number[],
  strides: readonly number[],
  visit: (offset: number, index: number) => void,
): void {
  const count = elementCount(shape);
  const position = new Array<number>(shape.length).fill(0);
  let offset = 0;
  for (let index = 0; index < count; index++) {
    visit(offset, index);
    for (let dim = shape.length - 1; dim >= 0; dim--) {
      const next = (position[dim] ?? 0) + 1;
      const stride = strides[dim] ?? 0;
      if (next < (shape[dim] ?? 0)) {
        position[dim] = next;
        offset += stride;
        break;
      }
      offset -= (next - 1) * stride;
      position[dim] = 0;
    }
  }
}
