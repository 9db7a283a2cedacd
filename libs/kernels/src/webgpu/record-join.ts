// Puts an operand together of which some parts lie on the GPU, and others come from the heap.
import { contiguousStrides, DTYPE_BYTES } from "@lockstep/tensor";
import type { Operand } from "../operand.ts";
import { joinParts } from "./joined-parts.ts";
import { placeRows, type RowRecorder } from "./place-rows.ts";
import type { Region } from "./region.ts";

/** What of a recorder puts an operand together. */
interface JoinRecorder extends RowRecorder {
  read(operand: Operand): Region;
  together(bytes: number, strides: readonly number[]): Region;
}

/**
 * Records copies of parts [B, h, ...] to their places side by side along dimension 1: what lies on the GPU is copied
 * there, and of the heap's parts each run goes up at once.
 * @returns where they lie together, without gaps, for this submission
 */
export function recordJoin(recorder: JoinRecorder, parts: readonly Operand[]): Region {
  const [first] = parts;
  if (first === undefined) throw new RangeError("there are no parts");
  const [rows = 0] = first.shape;
  const width = DTYPE_BYTES[first.dtype];
  const along = parts.reduce((sum, part) => sum + (part.shape[1] ?? 0), 0);
  const shape = first.shape.map((size, dim) => (dim === 1 ? along : size));
  const rowBytesOf = (part: Operand): number => (rows === 0 ? 0 : (part.size / rows) * width);
  const stride = parts.reduce((sum, part) => sum + rowBytesOf(part), 0);
  const region = recorder.together(rows * stride, contiguousStrides(shape));
  let at = 0;
  for (const run of runsOf(parts)) {
    const [one] = run;
    if (one === undefined) continue;
    const from = recorder.read(run.length === 1 ? one : joinParts(run));
    const rowBytes = run.reduce((sum, part) => sum + rowBytesOf(part), 0);
    const source = { region: from, first: from.first * width, stride: (from.strides[0] ?? 0) * width };
    if (rowBytes > 0) placeRows(recorder, source, { region, first: at, stride }, rows, rowBytes, width);
    at += rowBytes;
  }
  return region;
}

/** The parts in order; those of the heap that follow one another are one run. */
function runsOf(parts: readonly Operand[]): Operand[][] {
  const runs: Operand[][] = [];
  for (const part of parts) {
    const last = runs.at(-1);
    if (last !== undefined && part.place === "heap" && last[0]?.place === "heap") last.push(part);
    else runs.push([part]);
  }
  return runs;
}
