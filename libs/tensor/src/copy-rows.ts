import type { ElementArray } from "./dtype.ts";

/** Copies elements of equal dtype row by row, where a row is the longest run that is contiguous on both sides. */
export function copyRows(
  shape: readonly number[],
  from: ElementArray,
  fromStrides: readonly number[],
  to: ElementArray,
  toStrides: readonly number[],
): void {
  let row = 1;
  let outer = shape.length;
  while (outer > 0) {
    const size = shape[outer - 1] ?? 0;
    if (size !== 1 && (fromStrides[outer - 1] !== row || toStrides[outer - 1] !== row)) break;
    row *= size;
    outer--;
  }
  const walk = (dim: number, fromOffset: number, toOffset: number): void => {
    if (dim === outer) {
      if (row < 16) for (let index = 0; index < row; index++) to[toOffset + index] = from[fromOffset + index] ?? 0;
      else to.set(from.subarray(fromOffset, fromOffset + row), toOffset);
      return;
    }
    const [fromStride = 0, toStride = 0] = [fromStrides[dim], toStrides[dim]];
    const size = shape[dim] ?? 0;
    for (let index = 0; index < size; index++)
      walk(dim + 1, fromOffset + index * fromStride, toOffset + index * toStride);
  };
  walk(0, 0, 0);
}
