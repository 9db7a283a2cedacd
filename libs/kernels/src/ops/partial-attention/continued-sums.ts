// Sums of attention that go on from call to call, over parts of a context one after another.
import { ArgumentError, describe } from "@lockstep/tensor";
import { expectDType, expectShape, type Operand } from "../../operand.ts";
import { expectApart, expectWritable } from "../../overlapping-operands.ts";
import { attentionTileKeys } from "./attention-tiles.ts";

/**
 * Where a call of partialAttention begins, and what becomes of its sums. Calls over the parts of a context, in order
 * and with borders at multiples of the backend's `sumsBorder` local indexes, give the bits of one call over all of it.
 * Sinks are given to each of the calls, or to none.
 */
export interface ContinuedSums {
  /**
   * The sums of every row [T, Hq, W], f32, W being the backend's `sumsWidth`; what is in them is the backend's affair.
   * On wasm and reference `out` and `lse` may be views of its first columns, since a row's sums are read before its
   * results are written; on webgpu they lie apart.
   */
  readonly state: Operand;
  /** The sums begin in this call; else they go on from `state`. */
  readonly isFirst: boolean;
  /** They end in `out` and `lse` in this call; else they are kept in `state`, and neither is written. */
  readonly isLast: boolean;
}

/** Keys of a split of batch-invariant attention on a GPU, from every multiple of their number on in local indexes. */
export const INVARIANT_SPLIT_KEYS = 256;

/** f32 elements of a row's sums there: its maximum, its sum of weights, its weighted values. */
export function invariantSumsWidth(valueDim: number): number {
  return valueDim + 2;
}

/**
 * `sumsWidth` of a webgpu backend.
 * @param batchInvariant as of the backend
 * @param valueDim columns of a value
 */
export function gpuSumsWidth(batchInvariant: boolean, valueDim: number): number | undefined {
  return batchInvariant ? invariantSumsWidth(valueDim) : undefined;
}

/**
 * `sumsBorder` of a webgpu backend; where its sums do not go on, any border does.
 * @param batchInvariant as of the backend
 * @param keyDim columns of a key
 * @param valueDim columns of a value
 */
export function gpuSumsBorder(batchInvariant: boolean, keyDim: number, valueDim: number): number {
  return batchInvariant ? INVARIANT_SPLIT_KEYS : attentionTileKeys(keyDim, valueDim);
}

/** Throws ArgumentError unless the sums fit the op's other arguments; their width is for the backend to check. */
export function checkContinuedSums(
  name: string,
  sums: ContinuedSums,
  rows: readonly [tokens: number, heads: number],
  inputs: Readonly<Record<string, Operand | undefined>>,
): void {
  if (typeof sums !== "object" || sums === null) throw new ArgumentError(name, "sums", "an object", describe(sums));
  const { state } = sums;
  expectShape(name, "sums.state", state, [...rows, null]);
  expectDType(name, "sums.state", state, ["f32"]);
  expectWritable(name, "sums.state", state);
  if (state.strides[2] !== 1 && (state.shape[2] ?? 0) > 1) {
    throw new ArgumentError(name, "sums.state", "of stride 1 in its last dimension", state.toString());
  }
  for (const flag of ["isFirst", "isLast"] as const) {
    if (typeof sums[flag] === "boolean") continue;
    throw new ArgumentError(name, `sums.${flag}`, "true or false", describe(sums[flag]));
  }
  for (const [argument, input] of Object.entries(inputs)) {
    if (input !== undefined) expectApart(name, "sums.state", state, argument, input);
  }
}

/** For backends whose sums begin and end in one call. @throws ArgumentError */
export function refuseContinuedSums(name: string): never {
  const advice = "Open the backend with batchInvariant, or attend in one call.";
  throw new ArgumentError(name, "sums", "left out on a webgpu backend that is not batchInvariant", "given", advice);
}

/** Throws ArgumentError unless sums have the width that a backend keeps them in. */
export function expectSumsWidth(name: string, { state }: ContinuedSums, width: number): void {
  if (state.shape[2] === width) return;
  throw new ArgumentError(name, "sums.state", `${width} wide, the backend's sumsWidth`, `${state.shape[2]}`);
}
