import { firstOfChunk } from "../layout/chunk-rule.ts";
import { recordShape } from "../wire/tensor-record.ts";

/** A chunk of a tensor along one of its dimensions. */
export interface RecordChunk {
  readonly axis: number;
  readonly start: number;
  readonly count: number;
}

/** Chunk `part` of `parts` of the tensor of a record; a negative dimension counts from the end. */
export function chunkOf(words: Int32Array, record: number, dim: number, part: number, parts: number): RecordChunk {
  const dims = (words[record] ?? 0) >>> 8;
  const axis = dim < 0 ? dim + dims : dim;
  const length = words[recordShape(record) + axis] ?? 0;
  const start = firstOfChunk(length, part, parts);
  return { axis, start, count: firstOfChunk(length, part + 1, parts) - start };
}
