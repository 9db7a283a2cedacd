import { DTYPES, formatShape } from "@lockstep/tensor";
import { MAX_DIMS } from "../transport/shared-memory/control-block.ts";

/** True when two tensor records have the same dtype and shape. */
export function recordsAgree(words: Int32Array, a: number, b: number): boolean {
  const head = words[a] ?? 0;
  if (head !== words[b]) return false;
  const end = 2 + (head >>> 8);
  for (let at = 2; at < end; at++) if (words[a + at] !== words[b + at]) return false;
  return true;
}

/** Dtype and shape of a tensor record, for people: `f32 [2, 3]`. */
export function describeRecord(words: Int32Array, record: number): string {
  const head = words[record] ?? 0;
  const dims = Math.min(head >>> 8, MAX_DIMS);
  return `${DTYPES[head & 0xff] ?? "?"} ${formatShape(Array.from({ length: dims }, (_, dim) => words[record + 2 + dim] ?? 0))}`;
}
