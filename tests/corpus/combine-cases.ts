// Correction, merge, reduce-scatter, all-to-all and query gather.
import type { DType } from "@lockstep/tensor";
import { Random } from "../../libs/kernels/src/testing/random.ts";
import { type Base, combineStates, type States } from "./combine-in-float64.ts";
import type { CorpusBuilder, Values } from "./corpus-builder.ts";
import { normals } from "./rounded.ts";
import type { ToleranceName } from "./tolerances.ts";

interface Shape {
  readonly ranks: number;
  readonly batch: number;
  readonly heads: number;
  readonly dim: number;
}

/** What the LSEs hold: [rank, row] to a number, from one that is drawn. */
type Lses = (drawn: number, rank: number, row: number) => number;

interface Edge {
  readonly name: string;
  readonly ranks: number;
  readonly lses: Lses;
  /** Outputs of ranks without keys are NaN, as uninitialised memory may be. */
  readonly poisoned?: boolean;
}

const NONE = Number.NEGATIVE_INFINITY;
const RANKS = [1, 2, 3, 4, 5, 8];
const EDGES: readonly Edge[] = [
  {
    name: "non-finite-lses",
    ranks: 4,
    lses: (drawn, rank, row) => [drawn, NONE, Number.NaN, Number.POSITIVE_INFINITY][(rank + row) % 5] ?? drawn,
    poisoned: true,
  },
  { name: "one-rank-empty", ranks: 4, lses: (drawn, rank) => (rank === 1 ? NONE : drawn), poisoned: true },
  { name: "one-rank-holds-all", ranks: 5, lses: (drawn, rank) => (rank === 3 ? drawn : NONE), poisoned: true },
  { name: "some-rows-empty", ranks: 3, lses: (drawn, _, row) => (row % 3 === 0 ? NONE : drawn) },
  { name: "all-empty", ranks: 2, lses: () => NONE, poisoned: true },
  { name: "one-rank-dominant", ranks: 2, lses: (_, rank) => (rank === 0 ? 0 : -100) },
  { name: "equal-lses", ranks: 4, lses: () => 1.5 },
  { name: "wide-lses", ranks: 3, lses: (drawn) => drawn * 60 },
  { name: "large-lses", ranks: 3, lses: (drawn, _, row) => drawn + (row % 2 === 0 ? 400 : -400) },
];

const COMBINE_MISTAKES = [
  "lse-base-swapped",
  "lse-of-one-rank",
  "mean-weights",
  "unweighted-sum",
  "no-max-subtraction",
  "non-finite-lse-kept",
  "empty-rank-output-kept",
  "empty-row-nan",
  "swapped-ranks",
];

/** Adds all of them. */
export function addCombineCases(builder: CorpusBuilder): void {
  const random = new Random(20_250_701);
  for (const base of ["e", "2"] as const) {
    for (const ranks of RANKS) {
      const shape = { ranks, batch: 2, heads: 3, dim: 7 };
      addBoth(builder, `base-${base}-${ranks}-ranks`, shape, base, "f32", states(random, shape, "f32"));
    }
    for (const edge of EDGES) {
      const shape = { ranks: edge.ranks, batch: 3, heads: 2, dim: 5 };
      addBoth(builder, `base-${base}-${edge.name}`, shape, base, "f32", states(random, shape, "f32", edge));
    }
    for (const dtype of ["f16", "bf16"] as const) {
      const shape = { ranks: 3, batch: 2, heads: 2, dim: 16 };
      addBoth(builder, `base-${base}-${dtype}`, shape, base, dtype, states(random, shape, dtype));
      const emptyRank = states(random, shape, dtype, EDGES[1]);
      addBoth(builder, `base-${base}-${dtype}-one-rank-empty`, shape, base, dtype, emptyRank);
    }
  }
  for (const ranks of RANKS) {
    // 8 heads split evenly over 1, 2, 4 and 8 ranks; 3 and 5 get chunks of different sizes.
    const shape = { ranks, batch: 2, heads: 8, dim: 4 };
    addReductions(builder, `${ranks}-ranks`, shape, "e", states(random, shape, "f32"));
    addGather(builder, `${ranks}-ranks`, shape, "f32", random);
  }
  const uneven = { ranks: 3, batch: 3, heads: 7, dim: 6 };
  addReductions(builder, "7-heads-base-2", uneven, "2", states(random, uneven, "f32"));
  const empty = { ranks: 4, batch: 3, heads: 8, dim: 4 };
  addReductions(builder, "one-rank-empty", empty, "e", states(random, empty, "f32", EDGES[1]));
  addReductions(builder, "some-rows-empty", empty, "e", states(random, empty, "f32", EDGES[3]));
  for (const dtype of ["f16", "bf16"] as const) addGather(builder, dtype, uneven, dtype, random);
}

/** Partial states of that shape, rounded to `dtype`. LSEs are f32. */
function states(random: Random, { ranks, batch, heads, dim }: Shape, dtype: DType, edge?: Edge): States {
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
  return { ranks, rows, dim, outs, lses };
}

function inputsOf({ ranks, batch, heads, dim }: Shape, dtype: DType, { outs, lses }: States) {
  return {
    outs: { dtype, shape: [ranks, batch, heads, dim], numbers: outs },
    lses: { dtype: "f32", shape: [ranks, batch, heads], numbers: lses },
  } as const satisfies Record<string, Values>;
}

/** The same states corrected and merged. */
function addBoth(b: CorpusBuilder, name: string, shape: Shape, base: Base, dtype: DType, given: States): void {
  const { ranks, batch, heads, dim } = shape;
  const inputs = inputsOf(shape, dtype, given);
  const tolerance: ToleranceName = dtype === "f16" || dtype === "bf16" ? dtype : "f32";
  const right = combineStates(given, base);
  const wrong = COMBINE_MISTAKES.map((mistake) => ({ mistake, outputs: combineStates(given, base, mistake) }));
  const lse = { dtype: "f32", shape: [batch, heads], numbers: right.lse, tolerance: "f32" } as const;
  const corrected = { dtype: "f32", shape: [ranks, batch, heads, dim], numbers: right.corrected, tolerance } as const;
  const out = { dtype: "f32", shape: [batch, heads, dim], numbers: right.out, tolerance } as const;
  const parameters = { base, out_dtype: dtype };
  // A correction does not know the outputs of other ranks: it neither adds nor averages them.
  b.add({ name: `correct_attn_out/${name}`, op: "correct_attn_out", parameters, inputs, outputs: { corrected, lse }, wrong });
  b.add({ name: `merge_attn_states/${name}`, op: "merge_attn_states", parameters, inputs, outputs: { out, lse }, wrong });
}

/** Heads [start, end) of a rank. */
export function chunkOf(heads: number, rank: number, ranks: number): readonly [start: number, end: number] {
  return [Math.floor((heads * rank) / ranks), Math.floor((heads * (rank + 1)) / ranks)];
}

function addReductions(b: CorpusBuilder, name: string, shape: Shape, base: Base, given: States): void {
  const { ranks, batch, heads, dim } = shape;
  const inputs = inputsOf(shape, "f32", given);
  const right = combineStates(given, base);
  const ownerOf = Array.from({ length: heads }, (_, head) =>
    Array.from({ length: ranks }, (_, rank) => chunkOf(heads, rank, ranks)).findIndex(([, end]) => head < end),
  );
  /** Elements of rows [batch, head, width] rearranged. */
  const remade = (width: number, at: (row: number, head: number, column: number) => number): Float64Array =>
    Float64Array.from({ length: batch * heads * width }, (_, index) => {
      const [row, head] = [Math.floor(index / (heads * width)), Math.floor(index / width) % heads];
      return at(row, head, index % width);
    });
  const swapped = (numbers: Float64Array, width: number): Float64Array =>
    // Chunks of even worlds are of one size where heads divide: rank r gets what its neighbour should.
    remade(width, (row, head, column) => {
      const moved = (head + Math.ceil(heads / ranks)) % heads;
      return numbers[(row * heads + moved) * width + column] ?? Number.NaN;
    });
  const own = remade(dim, (row, head, column) => {
    return right.corrected[(((ownerOf[head] ?? 0) * batch + row) * heads + head) * dim + column] ?? Number.NaN;
  });
  const rolled = Float64Array.from(given.lses, (_, index) => {
    const head = index % heads;
    return given.lses[index - head + ((head + Math.ceil(heads / ranks)) % heads)] ?? Number.NaN;
  });
  const wrong = ["lse-base-swapped", "mean-weights", "unweighted-sum", "empty-rank-output-kept", "empty-row-nan"].map(
    (mistake) => ({ mistake, outputs: combineStates(given, base, mistake) }),
  );
  const others = [{ mistake: "swapped-ranks", outputs: { out: swapped(right.out, dim), lse: swapped(right.lse, 1) } }];
  const kept = { mistake: "no-reduction", outputs: { out: own, lse: right.lse } };
  const lost = { mistake: "a2a-lse-of-other-heads", outputs: combineStates({ ...given, lses: rolled }, base) };
  const outputs = {
    out: { dtype: "f32", shape: [batch, heads, dim], numbers: right.out, tolerance: "f32" },
    lse: { dtype: "f32", shape: [batch, heads], numbers: right.lse, tolerance: "f32" },
  } as const;
  const parameters = { base };
  const scatter = [...wrong, ...others, kept];
  b.add({ name: `reduce_output/${name}`, op: "reduce_output", parameters, inputs, outputs, wrong: scatter });
  b.add({ name: `a2a_combine/${name}`, op: "a2a_combine", parameters, inputs, outputs, wrong: [...wrong, ...others, lost] });
}

function addGather(b: CorpusBuilder, name: string, { ranks, batch, heads, dim }: Shape, dtype: DType, random: Random): void {
  const numbers = normals(random, dtype, batch * heads * dim);
  const query: Values = { dtype, shape: [batch, heads, dim], numbers };
  const element = (row: number, head: number, column: number): number =>
    numbers[(row * heads + head) * dim + column] ?? Number.NaN;
  const chunks = Array.from({ length: ranks }, (_, rank) => chunkOf(heads, rank, ranks));
  const [alongBatch, interleaved, swapped]: [number[], number[], number[]] = [[], [], []];
  const put = (to: number[], row: number, head: number): void => {
    for (let column = 0; column < dim; column++) to.push(element(row, head, column));
  };
  for (const [start, end] of chunks) {
    for (let row = 0; row < batch; row++) for (let head = start; head < end; head++) put(alongBatch, row, head);
  }
  const order = chunks.flatMap(([start, end]) => Array.from({ length: end - start }, (_, item) => [item, start] as const));
  const dealt = order.toSorted(([a, from], [b, other]) => a - b || from - other).map(([item, start]) => start + item);
  const rotated = [...chunks.slice(1), ...chunks.slice(0, 1)].flatMap(([start, end]) =>
    Array.from({ length: end - start }, (_, item) => start + item),
  );
  for (let row = 0; row < batch; row++) {
    for (const head of dealt) put(interleaved, row, head);
    for (const head of rotated) put(swapped, row, head);
  }
  b.add({
    name: `gather_query/${name}`,
    op: "gather_query",
    parameters: { world: ranks },
    // The input is the whole query: rank r brings its chunk of the heads.
    inputs: { query },
    outputs: { gathered: { ...query, tolerance: "exact" } },
    wrong: [
      { mistake: "gathered-along-batch", outputs: { gathered: alongBatch } },
      { mistake: "heads-interleaved", outputs: { gathered: interleaved } },
      { mistake: "swapped-ranks", outputs: { gathered: swapped } },
    ],
  });
}
