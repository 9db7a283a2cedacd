import { DTYPE_BYTES, type DType } from "./dtype.ts";

const MOST_STEPS = 10_000;

/** Where a strided view's elements lie within a memory. */
export interface ElementView {
  /** Of its elements. */
  readonly dtype: DType;
  /** Sizes of its dimensions, the outermost first. */
  readonly shape: readonly number[];
  /** In elements. */
  readonly strides: readonly number[];
  /** Its first byte within the memory. */
  readonly byteOffset: number;
  /** One past the last byte it touches; `byteOffset` when it has no elements. */
  readonly byteEnd: number;
  /** Number of elements. */
  readonly size: number;
  /** True when the elements lie in row-major order without gaps. */
  readonly isContiguous: boolean;
}

/**
 * True when two views of one memory have an element's byte in common. Exact, except that very contorted views count as
 * overlapping.
 */
export function overlaps(a: ElementView, b: ElementView): boolean {
  if (a.size === 0 || b.size === 0) return false;
  const aBytes = DTYPE_BYTES[a.dtype];
  const bBytes = DTYPE_BYTES[b.dtype];
  if (a.byteEnd <= b.byteOffset || b.byteEnd <= a.byteOffset) return false;
  if (a.isContiguous && b.isContiguous) return true;
  // A common byte is a solution of: offset of an element of a + i = difference + offset of an element of b + j. What is
  // taken away steps down from its largest value, so that all steps are positive and equal ones are one.
  let target = b.byteOffset - a.byteOffset;
  const counts = new Map<number, number>();
  const add = (step: number, count: number): void => {
    if (step > 0 && count > 1) counts.set(step, (counts.get(step) ?? 1) + count - 1);
  };
  const subtract = (step: number, count: number): void => {
    if (count > 1) target += step * (count - 1);
    add(step, count);
  };
  add(1, aBytes);
  subtract(1, bBytes);
  for (const [dim, count] of a.shape.entries()) add((a.strides[dim] ?? 0) * aBytes, count);
  for (const [dim, count] of b.shape.entries()) subtract((b.strides[dim] ?? 0) * bBytes, count);
  const terms = Array.from(counts, ([step, count]) => ({ step, count })).sort((left, right) => right.step - left.step);
  return isReachable(target, terms);
}

/**
 * True when two elements of a view may lie at one place, as where a stride is 0: such a view cannot be written. Exact
 * for views that slicing and transposing make; of more contorted ones some that would do count as overlapping.
 */
export function overlapsItself({ shape, strides, size, isContiguous }: ElementView): boolean {
  if (isContiguous || size <= 1) return false;
  for (let dim = 0; dim < shape.length; dim++) {
    const stride = strides[dim] ?? 0;
    if ((shape[dim] ?? 0) <= 1) continue;
    let reach = 0;
    for (let other = 0; other < shape.length; other++) {
      const inner = strides[other] ?? 0;
      const isInner = inner < stride || (inner === stride && other > dim);
      if (isInner) reach += ((shape[other] ?? 0) - 1) * inner;
    }
    if (stride <= reach) return true;
  }
  return false;
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
