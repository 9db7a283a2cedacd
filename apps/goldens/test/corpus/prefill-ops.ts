// Prefill in float64: new tokens attend to the sharded context before them and to each other, as defined and as
// mistakes have it.
import { is16Or8Bit } from "./attention-ops.ts";
import { combineStates } from "./combine-in-float64.ts";
import {
  type Float64Op,
  type Inputs,
  input,
  type OpParameters,
  type Outputs,
  type OutputValues,
} from "./corpus-values.ts";
import { headTailRank } from "./head-tail.ts";
import { dealingOf, placeOf } from "./ownership-ops.ts";
import { askedAs, type NewToken, newTokens, type Range, seenOfChunk, seenOnRank } from "./prefill-visibility.ts";
import { attendRow, type HeadShape, type KeyRows } from "./row-attention.ts";

/** Where keys lie. */
interface Prefill {
  readonly shape: HeadShape;
  readonly query: ArrayLike<number>;
  readonly tokens: readonly NewToken[];
  readonly ranks: number;
  readonly sinks: ArrayLike<number> | undefined;
  /** What a rank shows of contexts. */
  readonly contextOf: (rank: number) => KeyRows;
  /** The row there of a sequence's local index; undefined where it has none. */
  readonly contextRow: (rank: number, sequence: number, local: number) => number | undefined;
  /** New tokens; in caches of 8 bits, or as what they are worth. */
  readonly chunk: KeyRows;
  readonly isChunkQuantised: boolean;
  readonly chunkRow: (sequence: number, index: number) => number;
}

/** States of all rows and heads: out [rows, Dv] and lse [rows]. */
interface States {
  readonly out: Float64Array;
  readonly lse: Float64Array;
}

const NONE = Number.NEGATIVE_INFINITY;

/** Of each rank its attention to the contexts [W, T, Hq], and the attention of chunks to themselves [T, Hq]. */
function attendInParts(p: OpParameters, prefill: Prefill, mistake?: string): { contexts: States; chunks: States } {
  const { ranks, tokens } = prefill;
  const asked = askedAs(tokens, mistake);
  const { key_scale: _, value_scale: __, ...unscaled } = p;
  const ofChunks = prefill.isChunkQuantised ? p : unscaled;
  const byRank = Array.from({ length: ranks }, (_rank, rank) => {
    const hasSinks = mistake === "sinks-on-every-rank" || (mistake === "sinks-in-both-parts" && rank === 0);
    const seen = asked.map((token) => {
      const locals = seenOnRank(p, rank, token, mistake).flatMap(indexesOf);
      return locals.flatMap((local) => prefill.contextRow(rank, token.sequence, local) ?? []);
    });
    return attendAll(p, prefill, prefill.contextOf(rank), seen, hasSinks, mistake);
  });
  const contexts = {
    out: joined(...byRank.map(({ out }) => out)),
    lse: joined(...byRank.map(({ lse }) => lse)),
  };
  const seen = asked.map((token) => {
    const rankOf = (index: number): number => headTailRank(index, token.count, p.pcp ?? 1);
    const isShown = (index: number): boolean =>
      mistake !== "pcp-own-keys-only" || rankOf(index) === rankOf(token.index);
    const indexes = indexesOf(seenOfChunk(p, token, mistake)).filter(isShown);
    return indexes.map((index) => prefill.chunkRow(token.sequence, index));
  });
  return { contexts, chunks: attendAll(ofChunks, prefill, prefill.chunk, seen, true, mistake) };
}

/** All query rows, each over the rows of `source` that it sees. */
function attendAll(
  p: OpParameters,
  { shape, query, sinks }: Prefill,
  source: KeyRows,
  seen: readonly (readonly number[])[],
  hasSinks: boolean,
  mistake?: string,
): States {
  const { heads, valueDim } = shape;
  const out = new Float64Array(seen.length * heads * valueDim);
  const lse = new Float64Array(seen.length * heads);
  for (const [row, rows] of seen.entries()) {
    for (let head = 0; head < heads; head++) {
      const sink = hasSinks && mistake !== "sinks-missing" ? (sinks?.[head] ?? NONE) : NONE;
      const state = attendRow(p, shape, { query, row, head, sink }, source, rows, mistake);
      out.set(state.out, (row * heads + head) * valueDim);
      lse[row * heads + head] = state.lse;
    }
  }
  return { out, lse };
}

/** Contexts of all ranks merged, and merged with the chunks. */
function merged({ shape, tokens, ranks }: Prefill, contexts: States, chunks: States, mistake?: string): States {
  const { heads, valueDim: dim } = shape;
  const rows = tokens.length * heads;
  const ofRanks = mistake === "context-base-swapped" ? "lse-base-swapped" : mistake;
  const lses = contexts.lse.map((own, at) => {
    if (mistake !== "context-lse-not-transposed") return own;
    // What lies there when a rank's [Hq, T] is taken for [T, Hq].
    const [first, within] = [at - (at % rows), at % rows];
    return contexts.lse[first + (within % tokens.length) * heads + Math.floor(within / tokens.length)] ?? own;
  });
  const context = combineStates({ ranks, rows, dim, outs: contexts.out, lses }, "e", "propagate", ofRanks);
  const lse = context.lse.map((own) => (mistake === "context-lse-in-base-2" ? own / Math.LN2 : own));
  const parts = { ranks: 2, rows, dim, outs: joined(context.out, chunks.out), lses: joined(lse, chunks.lse) };
  const isOfBoth = mistake === "lse-base-swapped" || mistake === "bad-shard-dropped";
  const ofParts = mistake === "parts-base-swapped" ? "lse-base-swapped" : isOfBoth ? mistake : undefined;
  return combineStates(parts, "e", "propagate", ofParts);
}

/** A chunk over contexts in caches that are given, in its parts and merged. */
export const prefillParts: Float64Op = (parameters, inputs, mistake) => {
  const [query, key, keys] = [input(inputs, "query"), input(inputs, "key"), input(inputs, "key_cache")];
  const [value, values] = [inputs.value ?? key, inputs.value_cache ?? keys];
  const [ranks = 0, blocks = 0, blockSize = 0] = keys.shape;
  const [table, columns] = [input(inputs, "block_table").numbers, input(inputs, "block_table").shape[1] ?? 0];
  const tokens = newTokens(input(inputs, "lengths").numbers, input(inputs, "queries").numbers);
  const shape = shapeOf(parameters, inputs);
  const caches = Array.from({ length: ranks }, (_, rank): KeyRows => {
    const part = (source: ArrayLike<number>, dim: number): Float64Array => {
      const size = blocks * blockSize * shape.kvHeads * dim;
      return Float64Array.from({ length: size }, (_element, at) => source[rank * size + at] ?? Number.NaN);
    };
    return { keys: part(keys.numbers, shape.keyDim), values: part(values.numbers, shape.rowDim) };
  });
  const prefill: Prefill = {
    shape,
    query: query.numbers,
    tokens,
    ranks,
    sinks: undefined,
    contextOf: (rank) => caches[rank] ?? { keys: [], values: [] },
    contextRow: (_, sequence, local) => {
      if (local >= columns * blockSize) return undefined;
      const block = table[sequence * columns + Math.floor(local / blockSize)] ?? 0;
      return block * blockSize + (local % blockSize);
    },
    chunk: { keys: key.numbers, values: value.numbers },
    isChunkQuantised: false,
    chunkRow: rowsOfChunks(tokens),
  };
  const { contexts, chunks } = attendInParts(parameters, prefill, mistake);
  const { out, lse } = merged(prefill, contexts, chunks, mistake);
  const tolerance = is16Or8Bit(query.dtype, keys.dtype) ? "f32-of-16-bit" : "f32";
  const rows = [tokens.length, shape.heads];
  const put = (leading: readonly number[], numbers: Float64Array): OutputValues => {
    return { dtype: "f32", shape: leading, numbers, tolerance };
  };
  return {
    context_out: put([ranks, ...rows, shape.valueDim], contexts.out),
    context_lse: put([ranks, ...rows], contexts.lse),
    chunk_out: put([...rows, shape.valueDim], chunks.out),
    chunk_lse: put(rows, chunks.lse),
    out: put([...rows, shape.valueDim], out),
    lse: put(rows, lse),
  };
};

/** The whole step: chunks of sequences whose contexts are spread over ranks. */
export const prefillStep: Float64Op = (parameters, inputs, mistake): Outputs => {
  const [query, key] = [input(inputs, "query"), input(inputs, "key")];
  const value = inputs.value ?? key;
  const lengths = Array.from(input(inputs, "lengths").numbers);
  const { world = 1, pcp = 1 } = parameters;
  const tokens = newTokens(lengths, input(inputs, "queries").numbers);
  const rows = { keys: key.numbers, values: value.numbers };
  const firstOf = lengths.map((_, sequence) => lengths.slice(0, sequence).reduce((sum, length) => sum + length, 0));
  const held = lengths.map((length) => positionsByRank(parameters, length));
  const contextOf = (sequence: number): number => tokens.find((token) => token.sequence === sequence)?.context ?? 0;
  const prefill: Prefill = {
    shape: shapeOf(parameters, inputs),
    query: query.numbers,
    tokens,
    ranks: world,
    sinks: inputs.sinks?.numbers,
    contextOf: () => rows,
    contextRow: (rank, sequence, local) => {
      const position = held[sequence]?.[rank]?.[local];
      return position === undefined ? undefined : (firstOf[sequence] ?? 0) + position;
    },
    chunk: rows,
    isChunkQuantised: true,
    chunkRow: (sequence, index) => (firstOf[sequence] ?? 0) + contextOf(sequence) + index,
  };
  const { contexts, chunks } = attendInParts(parameters, prefill, mistake);
  const { out, lse } = merged(prefill, contexts, chunks, mistake);
  const { heads, valueDim } = prefill.shape;
  const tolerance = is16Or8Bit(query.dtype, key.dtype) ? "f32-of-16-bit" : "f32";
  const isByRank = mistake === "head-tail-not-restored";
  const order = isByRank ? byPcpRank(tokens, pcp) : tokens.map((_, row) => row);
  const shape = [tokens.length, heads];
  return {
    out: { dtype: "f32", shape: [...shape, valueDim], numbers: rowsInOrder(out, order), tolerance },
    lse: { dtype: "f32", shape, numbers: rowsInOrder(lse, order), tolerance },
  };
};

function shapeOf({ value_dim: valueDim }: OpParameters, inputs: Inputs): HeadShape {
  const [query, key] = [input(inputs, "query"), input(inputs, "key")];
  const [, heads = 0, keyDim = 0] = query.shape;
  const rowDim = (inputs.value ?? key).shape[2] ?? 0;
  const isMla = inputs.value === undefined;
  return { heads, kvHeads: key.shape[1] ?? 0, keyDim, rowDim, valueDim: valueDim ?? rowDim, isMla };
}

/** Where new tokens lie when they lie one after another. */
function rowsOfChunks(tokens: readonly NewToken[]): Prefill["chunkRow"] {
  return (sequence, index) => tokens.findIndex((token) => token.sequence === sequence) + index;
}

/** The positions that each rank stores, in the order of its local indexes. */
function positionsByRank(parameters: OpParameters, length: number): number[][] {
  const { world = 1 } = parameters;
  const dealing = dealingOf(parameters);
  const held = Array.from({ length: world }, (): number[] => []);
  for (let position = 0; position < length; position++) held[placeOf(dealing, position).rank]?.push(position);
  return held;
}

/** Rows in the order in which PCP ranks, one after another, have them. */
function byPcpRank(tokens: readonly NewToken[], pcp: number): number[] {
  return indexesOf({ start: 0, end: pcp }).flatMap((rank) => {
    return tokens.flatMap(({ index, count }, row) => (headTailRank(index, count, pcp) === rank ? [row] : []));
  });
}

function rowsInOrder(numbers: Float64Array, order: readonly number[]): Float64Array {
  const width = order.length === 0 ? 0 : numbers.length / order.length;
  return joined(...order.map((row) => numbers.subarray(row * width, (row + 1) * width)));
}

function joined(...parts: readonly Float64Array[]): Float64Array {
  return Float64Array.from(parts.flatMap((part) => Array.from(part)));
}

function indexesOf({ start, end }: Range): number[] {
  return Array.from({ length: Math.max(0, end - start) }, (_, index) => start + index);
}
