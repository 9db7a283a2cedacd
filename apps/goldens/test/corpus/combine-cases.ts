// Correction, merge, reduce-scatter, all-to-all and query gather.
import type { DType } from "@lockstep/tensor";
import { Random } from "../../../../libs/kernels/src/testing/random.ts";
import type { Base, NonFiniteRule } from "./combine-in-float64.ts";
import type { CorpusBuilder } from "./corpus-builder.ts";
import { type Inputs, input } from "./corpus-values.ts";
import { normals } from "./rounded.ts";

interface Shape {
  readonly ranks: number;
  readonly batch: number;
  readonly heads: number;
  readonly dim: number;
}

interface Edge {
  readonly name: string;
  readonly ranks: number;
  /** What the LSE of a rank and row is, from one that is drawn. */
  readonly lses: (drawn: number, rank: number, row: number) => number;
  /** Outputs of ranks whose LSE is not finite are NaN, as uninitialised memory may be. */
  readonly poisoned?: boolean;
  readonly rule?: NonFiniteRule;
}

const NONE = Number.NEGATIVE_INFINITY;
const RANKS = [1, 2, 3, 4, 5, 8];
const BAD = [Number.NaN, Number.POSITIVE_INFINITY];
const ONE_EMPTY: Edge = {
  name: "one-rank-empty",
  ranks: 4,
  lses: (drawn, rank) => (rank === 1 ? NONE : drawn),
  poisoned: true,
};
const SOME_ROWS_EMPTY: Edge = {
  name: "some-rows-empty",
  ranks: 4,
  lses: (drawn, _, row) => (row % 3 === 0 ? NONE : drawn),
};
/** A NaN or +inf on one rank in some rows: dropped, or visible. */
const badShard = (rule: NonFiniteRule): Edge => {
  return {
    name: `bad-shard-${rule}`,
    ranks: 3,
    lses: (drawn, rank, row) => (rank === row % 4 ? (BAD[row % 2] ?? drawn) : rank === 2 && row === 5 ? NONE : drawn),
    poisoned: rule === "drop",
    rule,
  };
};
const EDGES: readonly Edge[] = [
  ONE_EMPTY,
  SOME_ROWS_EMPTY,
  badShard("drop"),
  badShard("propagate"),
  {
    name: "non-finite-lses",
    ranks: 4,
    lses: (drawn, rank, row) => [drawn, NONE, ...BAD][(rank + row) % 5] ?? drawn,
    poisoned: true,
  },
  { name: "one-rank-holds-all", ranks: 5, lses: (drawn, rank) => (rank === 3 ? drawn : NONE), poisoned: true },
  { name: "all-empty", ranks: 2, lses: () => NONE, poisoned: true },
  { name: "one-rank-dominant", ranks: 2, lses: (_, rank) => (rank === 0 ? 0 : -100) },
  { name: "equal-lses", ranks: 4, lses: () => 1.5 },
  { name: "wide-lses", ranks: 3, lses: (drawn) => drawn * 60 },
  { name: "large-lses", ranks: 3, lses: (drawn, _, row) => drawn + (row % 2 === 0 ? 400 : -400) },
];

/** Adds all of them. */
export function addCombineCases(builder: CorpusBuilder): void {
  const random = new Random(20_250_701);
  for (const base of ["e", "2"] as const) {
    for (const ranks of RANKS) {
      const shape = { ranks, batch: 2, heads: 3, dim: 7 };
      addBoth(builder, `base-${base}-${ranks}-ranks`, base, "f32", states(random, shape, "f32"));
    }
    for (const edge of EDGES) {
      const shape = { ranks: edge.ranks, batch: 3, heads: 2, dim: 5 };
      addBoth(builder, `base-${base}-${edge.name}`, base, "f32", states(random, shape, "f32", edge), edge.rule);
    }
    for (const dtype of ["f16", "bf16"] as const) {
      const shape = { ranks: 3, batch: 2, heads: 2, dim: 16 };
      addBoth(builder, `base-${base}-${dtype}`, base, dtype, states(random, shape, dtype));
      const empty = states(random, { ...shape, ranks: 4 }, dtype, ONE_EMPTY);
      addBoth(builder, `base-${base}-${dtype}-one-rank-empty`, base, dtype, empty);
    }
  }
  addReductions(builder, random);
  for (const ranks of RANKS) addGather(builder, `${ranks}-ranks`, ranks, 8, "f32", random);
  for (const dtype of ["f16", "bf16"] as const) addGather(builder, `${dtype}-7-heads`, 3, 7, dtype, random);
  addRefusals(builder, random);
  addGather(builder, "f8e4m3-8-heads", 3, 8, "f8e4m3", random);
}

/** Partial states of that shape, rounded to `dtype`. LSEs are f32. */
function states(random: Random, { ranks, batch, heads, dim }: Shape, dtype: DType, edge?: Edge): Inputs {
  const rows = batch * heads;
  const outs = normals(random, dtype, ranks * rows * dim);
  const lses = normals(random, "f32", ranks * rows, 2);
  for (let rank = 0; rank < ranks; rank++) {
    for (let row = 0; row < rows && edge !== undefined; row++) {
      const at = rank * rows + row;
      const lse = Math.fround(edge.lses(lses[at] ?? 0, rank, row));
      lses[at] = lse;
      if (!Number.isFinite(lse) && edge.poisoned === true) outs.fill(Number.NaN, at * dim, (at + 1) * dim);
    }
  }
  return {
    outs: { dtype, shape: [ranks, batch, heads, dim], numbers: outs },
    lses: { dtype: "f32", shape: [ranks, batch, heads], numbers: lses },
  };
}

/** The same states corrected and merged. */
function addBoth(
  builder: CorpusBuilder,
  name: string,
  base: Base,
  dtype: "f32" | "f16" | "bf16",
  inputs: Inputs,
  rule: NonFiniteRule = "drop",
): void {
  const parameters = { base, non_finite: rule, out_dtype: dtype };
  for (const op of ["correct_attn_out", "merge_attn_states"] as const) {
    builder.add({ name: `${op}/${name}`, op, parameters, inputs });
  }
}

function addReductions(builder: CorpusBuilder, random: Random): void {
  const add = (name: string, base: Base, inputs: Inputs, rule: NonFiniteRule = "drop"): void => {
    const parameters = { base, non_finite: rule };
    for (const op of ["reduce_output", "a2a_combine"] as const) {
      builder.add({ name: `${op}/${name}`, op, parameters, inputs });
    }
  };
  for (const ranks of RANKS) {
    // 8 heads split evenly over 1, 2, 4 and 8 ranks; 3 and 5 get chunks of different sizes.
    add(`${ranks}-ranks`, "e", states(random, { ranks, batch: 2, heads: 8, dim: 4 }, "f32"));
  }
  add("7-heads-base-2", "2", states(random, { ranks: 3, batch: 3, heads: 7, dim: 6 }, "f32"));
  add("2-heads-of-3-ranks", "e", states(random, { ranks: 3, batch: 2, heads: 2, dim: 3 }, "f32"));
  const four = { ranks: 4, batch: 3, heads: 8, dim: 4 };
  add("one-rank-empty", "e", states(random, four, "f32", ONE_EMPTY));
  add("some-rows-empty", "e", states(random, four, "f32", SOME_ROWS_EMPTY));
  for (const rule of ["drop", "propagate"] as const) {
    add(`bad-shard-${rule}`, "e", states(random, { ...four, ranks: 3 }, "f32", badShard(rule)), rule);
  }
}

function addGather(
  builder: CorpusBuilder,
  name: string,
  ranks: number,
  heads: number,
  dtype: DType,
  random: Random,
): void {
  const numbers = normals(random, dtype, 2 * heads * 3);
  builder.add({
    name: `gather_query/${name}`,
    op: "gather_query",
    parameters: { world: ranks },
    // The input is the whole query: rank r brings its chunk of the heads.
    inputs: { query: { dtype, shape: [2, heads, 3], numbers } },
  });
}

function addRefusals(builder: CorpusBuilder, random: Random): void {
  const shape = { ranks: 2, batch: 2, heads: 3, dim: 4 };
  const outs = input(states(random, shape, "f32"), "outs");
  const lses = input(states(random, { ...shape, heads: 2 }, "f32"), "lses");
  for (const op of ["correct_attn_out", "merge_attn_states"] as const) {
    const refuse = "LSEs are of 2 heads, outputs of 3.";
    builder.add({ name: `${op}/lses-of-other-heads`, op, parameters: {}, inputs: { outs, lses }, refuse });
  }
}
