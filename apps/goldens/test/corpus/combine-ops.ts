// Correction, merge, reduce-scatter, all-to-all and query gather in float64.
import type { ToleranceName } from "../../src/corpus/tolerances.ts";
import { type Base, combineStates, type NonFiniteRule, type States } from "./combine-in-float64.ts";
import { type Float64Op, type Inputs, input, type OpParameters, type Outputs } from "./corpus-values.ts";

interface Given {
  readonly states: States;
  readonly batch: number;
  readonly heads: number;
  readonly base: Base;
  readonly rule: NonFiniteRule;
  readonly tolerance: ToleranceName;
}

function given(parameters: OpParameters, inputs: Inputs): Given {
  const [outs, lses] = [input(inputs, "outs"), input(inputs, "lses")];
  const [ranks = 0, batch = 0, heads = 0, dim = 0] = outs.shape;
  const states = { ranks, rows: batch * heads, dim, outs: outs.numbers, lses: lses.numbers };
  const { base = "e", non_finite: rule = "drop" } = parameters;
  return {
    states,
    batch,
    heads,
    base,
    rule,
    tolerance: outs.dtype === "f16" || outs.dtype === "bf16" ? outs.dtype : "f32",
  };
}

/** What a rank's output becomes by the LSEs of all: no sum. */
export const correctAttnOut: Float64Op = (parameters, inputs, mistake) => {
  const { states, batch, heads, base, rule, tolerance } = given(parameters, inputs);
  const { corrected, lse } = combineStates(states, base, rule, mistake);
  return {
    corrected: { dtype: "f32", shape: [states.ranks, batch, heads, states.dim], numbers: corrected, tolerance },
    lse: { dtype: "f32", shape: [batch, heads], numbers: lse, tolerance: "f32" },
  };
};

/** The sum of the corrected outputs. */
export const mergeAttnStates: Float64Op = (parameters, inputs, mistake) => {
  const { states, batch, heads, base, rule, tolerance } = given(parameters, inputs);
  const { out, lse } = combineStates(states, base, rule, mistake);
  return merged(batch, heads, states.dim, out, lse, tolerance);
};

/** The same by all-gather of LSEs and reduce-scatter along heads. */
export const reduceOutput: Float64Op = (parameters, inputs, mistake) => reduced(parameters, inputs, mistake);

/** The same by all-to-all. */
export const a2aCombine: Float64Op = (parameters, inputs, mistake) => reduced(parameters, inputs, mistake);

function reduced(parameters: OpParameters, inputs: Inputs, mistake: string | undefined): Outputs {
  const { states, batch, heads, base, rule, tolerance } = given(parameters, inputs);
  const { ranks, dim, rows } = states;
  const shift = Math.ceil(heads / ranks);
  const moved = (row: number): number => row - (row % heads) + (((row % heads) + shift) % heads);
  const isOfOthers = mistake === "a2a-lse-of-other-heads";
  const lses = isOfOthers
    ? Float64Array.from(states.lses, (_, index) => states.lses[moved(index)] ?? Number.NaN)
    : states.lses;
  const passedOn = mistake === "swapped-ranks" || mistake === "no-reduction" ? undefined : mistake;
  const { corrected, out, lse } = combineStates({ ...states, lses }, base, rule, passedOn);
  if (mistake === "swapped-ranks") {
    const swapped = out.map((_, index) => out[moved(Math.floor(index / dim)) * dim + (index % dim)] ?? Number.NaN);
    return merged(
      batch,
      heads,
      dim,
      swapped,
      lse.map((_, row) => lse[moved(row)] ?? Number.NaN),
      tolerance,
    );
  }
  if (mistake === "no-reduction") {
    const own = out.map((_, index) => {
      const head = Math.floor(index / dim) % heads;
      return corrected[ownerOfHead(heads, head, ranks) * rows * dim + index] ?? Number.NaN;
    });
    return merged(batch, heads, dim, own, lse, tolerance);
  }
  return merged(batch, heads, dim, out, lse, tolerance);
}

function merged(
  batch: number,
  heads: number,
  dim: number,
  out: Float64Array,
  lse: Float64Array,
  tolerance: ToleranceName,
): Outputs {
  return {
    out: { dtype: "f32", shape: [batch, heads, dim], numbers: out, tolerance },
    lse: { dtype: "f32", shape: [batch, heads], numbers: lse, tolerance: "f32" },
  };
}

/** Heads [start, end) of a rank. */
export function chunkOf(heads: number, rank: number, ranks: number): readonly [start: number, end: number] {
  return [Math.floor((heads * rank) / ranks), Math.floor((heads * (rank + 1)) / ranks)];
}

function ownerOfHead(heads: number, head: number, ranks: number): number {
  return Array.from({ length: ranks }, (_, rank) => chunkOf(heads, rank, ranks)).findIndex(([, end]) => head < end);
}

/** Query heads of all ranks. */
export const gatherQuery: Float64Op = ({ world: ranks = 1 }, inputs, mistake) => {
  const query = input(inputs, "query");
  const [batch = 0, heads = 0, dim = 0] = query.shape;
  const chunks = Array.from({ length: ranks }, (_, rank) => chunkOf(heads, rank, ranks));
  const headsOf = ([start, end]: readonly [number, number]): number[] =>
    Array.from({ length: end - start }, (_, item) => start + item);
  const rows: (readonly [row: number, head: number])[] = [];
  const inRows = (order: readonly number[]): void => {
    for (let row = 0; row < batch; row++) for (const head of order) rows.push([row, head]);
  };
  if (mistake === "gathered-along-batch") {
    for (const chunk of chunks) inRows(headsOf(chunk));
  } else if (mistake === "heads-interleaved") {
    const order = chunks.flatMap((chunk) => headsOf(chunk).map((head) => [head - chunk[0], head] as const));
    inRows(order.toSorted(([a, from], [b, other]) => a - b || from - other).map(([, head]) => head));
  } else if (mistake === "swapped-ranks") {
    inRows([...chunks.slice(1), ...chunks.slice(0, 1)].flatMap(headsOf));
  } else {
    inRows(chunks.flatMap(headsOf));
  }
  const numbers = rows.flatMap(([row, head]) =>
    Array.from({ length: dim }, (_, column) => query.numbers[(row * heads + head) * dim + column] ?? Number.NaN),
  );
  return { gathered: { ...query, numbers, tolerance: "exact" } };
};
