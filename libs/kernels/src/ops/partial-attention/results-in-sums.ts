// Results may lie where a row's sums lay: these are read before the row's results are written. Those of other rows may
// be read afterwards.
import { ArgumentError } from "@lockstep/tensor";
import type { Operand } from "../../operand.ts";
import { shareBytes } from "../../overlapping-operands.ts";

/**
 * Throws ArgumentError unless a result lies apart from the sums or, for every row, within the sums of that row.
 * @param result [T, Hq] or [T, Hq, Dv], f32
 * @param state [T, Hq, W], f32, of stride 1 in its last dimension, its rows apart from each other
 */
export function expectApartOrInOwnSums(operation: string, argument: string, result: Operand, state: Operand): void {
  if (!shareBytes(result, state) || isInOwnSums(result, state)) return;
  const expected = "apart from `sums.state`, or within each row's own sums";
  throw new ArgumentError(operation, argument, expected, "overlapping those of other rows");
}

function isInOwnSums(result: Operand, state: Operand): boolean {
  for (const dim of [0, 1]) {
    if ((state.shape[dim] ?? 0) > 1 && result.strides[dim] !== state.strides[dim]) return false;
  }
  const first = (result.byteOffset - state.byteOffset) / 4;
  const last = first + ((result.shape[2] ?? 1) - 1) * (result.strides[2] ?? 0);
  return first >= 0 && last < (state.shape[2] ?? 0);
}
