import { DTYPE_BYTES, type DType } from "./dtype.ts";
import { spannedElements } from "./shape.ts";

const MOST_STEPS = 10_000;

/** Where a strided view's elements lie within a memory. */
export interface ElementView {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** In elements. */
  readonly strides: readonly number[];
  readonly byteOffset: number;
  readonly size: number;
  readonly isContiguous: boolean;
}

/** True when two views of one memory have an element's byte in common. Exact, except that very contorted views count as overlapping. */
export function overlaps(a: ElementView, b: ElementView): boolean {
  if (a.size === 0 || b.size === 0) return false;
  const aBytes = DTYPE_BYTES[a.dtype];
  const bBytes = DTYPE_BYTES[b.dtype];
  const aEnd = a.byteOffset + spannedElements(a.shape, a.strides) * aBytes;
  const bEnd = b.byteOffset + spannedElements(b.shape, b.strides) * bBytes;
  if (aEnd <= b.byteOffset || bEnd <= a.byteOffset) return false;
  if (a.isContiguous && b.isContiguous) return true;
  // A common byte is a solution of: offset of an element of a + i = difference + offset of an element of b + j.
  const terms = [
    { step: 1, count: aBytes },
    { step: -1, count: bBytes },
    ...a.shape.map((count, dim) => ({ step: (a.strides[dim] ?? 0) * aBytes, count })),
    ...b.shape.map((count, dim) => ({ step: -(b.strides[dim] ?? 0) * bBytes, count })),
  ]
    .filter(({ step, count }) => step !== 0 && count > 1)
    .sort((left, right) => Math.abs(right.step) - Math.abs(left.step));
  return isReachable(b.byteOffset - a.byteOffset, terms);
}

interface Term {
  readonly step: number;
  /** The term contributes step * k for one k in [0, count). */
  readonly count: number;
}

/** True when a sum of one contribution of every term equals `target`. Searches largest steps first, within bounds. */
function isReachable(target: number, terms: readonly Term[]): boolean {
  const lowest = new Array<number>(terms.length + 1).fill(0);
  const highest = new Array<number>(terms.length + 1).fill(0);
  for (let at = terms.length - 1; at >= 0; at--) {
    const { step, count } = terms[at] ?? { step: 0, count: 1 };
    const reach = step * (count - 1);
    lowest[at] = (lowest[at + 1] ?? 0) + Math.min(0, reach);
    highest[at] = (highest[at + 1] ?? 0) + Math.max(0, reach);
  }
  let steps = 0;
  const search = (rest: number, at: number): boolean => {
    if (rest < (lowest[at] ?? 0) || rest > (highest[at] ?? 0)) return false;
    const term = terms[at];
    if (term === undefined) return rest === 0;
    if (++steps > MOST_STEPS) return true;
    const { step, count } = term;
    // rest - step * k must lie within what the smaller terms can reach.
    const a = (rest - (lowest[at + 1] ?? 0)) / step;
    const b = (rest - (highest[at + 1] ?? 0)) / step;
    const from = Math.max(0, Math.ceil(Math.min(a, b)));
    const to = Math.min(count - 1, Math.floor(Math.max(a, b)));
    for (let k = from; k <= to; k++) if (search(rest - step * k, at + 1)) return true;
    return false;
  };
  return search(target, 0);
}

/** True when two views are the same elements in the same order. */
export function isSameView(a: ElementView, b: ElementView): boolean {
  return isViewAt(a, b, 0, b.shape);
}

/** True when `a` has the given shape, `b`'s strides, and starts `elements` after `b`. */
export function isViewAt(a: ElementView, b: ElementView, elements: number, shape: readonly number[]): boolean {
  return (
    a.dtype === b.dtype &&
    a.byteOffset === b.byteOffset + elements * DTYPE_BYTES[b.dtype] &&
    a.shape.length === shape.length &&
    shape.every((size, dim) => a.shape[dim] === size && (size <= 1 || a.strides[dim] === b.strides[dim]))
  );
}
