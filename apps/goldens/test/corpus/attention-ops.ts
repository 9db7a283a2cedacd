// Attention over paged shards in float64, and the whole step of decoding, as defined and as mistakes have it.
import { combineStates } from "./combine-in-float64.ts";
import { type Float64Op, type Inputs, input, type OpParameters, type Outputs, type Values } from "./corpus-values.ts";
import { shareOf, slotOf } from "./ownership-ops.ts";
import { attendRow, type HeadShape, type KeyRows } from "./row-attention.ts";

/** What one rank holds: rows [slots, Hkv, D]. */
interface RankCache extends KeyRows {
  readonly blockSize: number;
  readonly keys: Float64Array;
  readonly values: Float64Array;
}

/** A step: who asks, and where the keys lie. */
interface Step extends HeadShape {
  readonly query: ArrayLike<number>;
  readonly tokens: number;
  readonly caches: readonly RankCache[];
  readonly table: ArrayLike<number>;
  readonly columns: number;
  readonly sequences: ArrayLike<number>;
  readonly positions: ArrayLike<number>;
  readonly sinks: ArrayLike<number> | undefined;
}

/** Local indexes [start, end) that a query token sees on a rank. */
function visible(parameters: OpParameters, step: Step, rank: number, token: number, mistake?: string) {
  const position = step.positions[token] ?? -1;
  const { window } = parameters;
  const blockSize = step.caches[rank]?.blockSize ?? 0;
  let end = shareOf(parameters, rank, position + 1, mistake);
  if (mistake === "causal-by-local-index") {
    const isOwn = (_: number, at: number): boolean => step.sequences[at] === step.sequences[token];
    const last = Math.max(...Array.from(step.positions).filter(isOwn));
    end = Math.max(0, shareOf(parameters, rank, last + 1) - (last - position));
  }
  if (mistake === "stale-tail" && blockSize > 0) end = Math.ceil(end / blockSize) * blockSize;
  end = Math.min(end, step.columns * blockSize);
  if (window === undefined || mistake === "window-missing") return { start: 0, end };
  if (mistake === "window-over-local-indexes") return { start: Math.max(0, end - window), end };
  return { start: Math.min(shareOf(parameters, rank, Math.max(0, position - window + 1)), end), end };
}

/** What each rank makes of its own keys: out [W, T, Hq, Dv] and lse [W, T, Hq]. */
function attendOnRanks(
  parameters: OpParameters,
  step: Step,
  mistake?: string,
): { out: Float64Array; lse: Float64Array } {
  const { tokens, heads, valueDim, caches } = step;
  const out = new Float64Array(caches.length * tokens * heads * valueDim);
  const lse = new Float64Array(caches.length * tokens * heads);
  for (const [rank, cache] of caches.entries()) {
    for (let token = 0; token < tokens; token++) {
      const seen = seenRows(parameters, step, rank, token, mistake);
      for (let head = 0; head < heads; head++) {
        const row = (rank * tokens + token) * heads + head;
        const asked = { query: step.query, row: token, head, sink: sinkOf(step, rank, token, head, mistake) };
        const result = attendRow(parameters, step, asked, cache, seen, mistake);
        out.set(result.out, row * valueDim);
        lse[row] = mistake === "lse-in-base-2" ? result.lse / Math.LN2 : result.lse;
      }
    }
  }
  return { out, lse };
}

/** What a token sees on a rank: its rows of the rank's cache. */
function seenRows(p: OpParameters, step: Step, rank: number, token: number, mistake?: string): number[] {
  const blockSize = step.caches[rank]?.blockSize ?? 0;
  const { start, end } = visible(p, step, rank, token, mistake);
  return Array.from({ length: Math.max(0, end - start) }, (_, index) => {
    const entry = (step.sequences[token] ?? 0) * step.columns + Math.floor((start + index) / blockSize);
    return (step.table[entry] ?? 0) * blockSize + ((start + index) % blockSize);
  });
}

/** The logit that joins a row's denominator on a rank. */
function sinkOf(step: Step, rank: number, token: number, head: number, mistake?: string): number {
  const hasSink = mistake !== "sinks-missing" && (rank === 0 || mistake === "sinks-on-every-rank");
  const isPadding = (step.positions[token] ?? -1) < 0;
  return hasSink && !isPadding ? (step.sinks?.[head] ?? Number.NEGATIVE_INFINITY) : Number.NEGATIVE_INFINITY;
}

/** Whether one of the dtypes is not f32. */
export function is16Or8Bit(...dtypes: readonly string[]): boolean {
  return dtypes.some((dtype) => dtype !== "f32");
}

/** Each rank's attention over caches that are given. */
export const partialAttention: Float64Op = (parameters, inputs, mistake) => {
  const [query, keys] = [input(inputs, "query"), input(inputs, "key_cache")];
  const values = inputs.value_cache ?? keys;
  const [ranks = 0, blocks = 0, blockSize = 0, kvHeads = 0, keyDim = 0] = keys.shape;
  const rowDim = values.shape[4] ?? 0;
  const part = (source: ArrayLike<number>, rank: number, dim: number): Float64Array => {
    const size = blocks * blockSize * kvHeads * dim;
    return Float64Array.from({ length: size }, (_, index) => source[rank * size + index] ?? Number.NaN);
  };
  const step: Step = {
    query: query.numbers,
    tokens: query.shape[0] ?? 0,
    heads: query.shape[1] ?? 0,
    kvHeads,
    keyDim,
    rowDim,
    valueDim: parameters.value_dim ?? rowDim,
    isMla: inputs.value_cache === undefined,
    caches: Array.from({ length: ranks }, (_, rank) => {
      const scales = (of: Values | undefined): Float64Array | undefined => of && part(of.numbers, rank, 1);
      return {
        blockSize,
        keys: part(keys.numbers, rank, keyDim),
        values: part(values.numbers, rank, rowDim),
        keyScales: scales(inputs.key_scales),
        valueScales: scales(inputs.value_scales),
      };
    }),
    table: input(inputs, "block_table").numbers,
    columns: input(inputs, "block_table").shape[1] ?? 0,
    sequences: input(inputs, "sequences").numbers,
    positions: input(inputs, "positions").numbers,
    sinks: inputs.sinks?.numbers,
  };
  const { out, lse } = attendOnRanks(parameters, step, mistake);
  const tolerance = is16Or8Bit(query.dtype, keys.dtype) ? "f32-of-16-bit" : "f32";
  const shape = [ranks, step.tokens, step.heads];
  return {
    out: { dtype: "f32", shape: [...shape, step.valueDim], numbers: out, tolerance },
    lse: { dtype: "f32", shape, numbers: lse, tolerance },
  };
};

/** Stores keys over ranks, attends on each and combines. */
export const decodeStep: Float64Op = (parameters, inputs, mistake) => {
  const step = storedStep(parameters, inputs, mistake);
  const partial = attendOnRanks(parameters, step, mistake);
  const { tokens, heads, valueDim, caches } = step;
  const rows = tokens * heads;
  const shift = Math.ceil(heads / caches.length);
  const lses = partial.lse.map((lse, index) => {
    const head = index % heads;
    return mistake === "a2a-lse-of-other-heads" ? (partial.lse[index - head + ((head + shift) % heads)] ?? lse) : lse;
  });
  const states = { ranks: caches.length, rows, dim: valueDim, outs: partial.out, lses };
  const { out, lse } = combineStates(states, "e", "propagate", mistake);
  return resultsOf(inputs, step, out, lse);
};

function resultsOf(inputs: Inputs, step: Step, out: Float64Array, lse: Float64Array): Outputs {
  const { tokens, heads, valueDim } = step;
  const tolerance = is16Or8Bit(input(inputs, "query").dtype, input(inputs, "key").dtype) ? "f32-of-16-bit" : "f32";
  return {
    out: { dtype: "f32", shape: [tokens, heads, valueDim], numbers: out, tolerance },
    lse: { dtype: "f32", shape: [tokens, heads], numbers: lse, tolerance },
  };
}

/** Fills the caches of all ranks; slots that no token goes to hold what another request left. */
function storedStep(parameters: OpParameters, inputs: Inputs, mistake: string | undefined): Step {
  const [query, key] = [input(inputs, "query"), input(inputs, "key")];
  const value = inputs.value ?? key;
  const { world = 1, block_size: size = 1, weights } = parameters;
  const [, kvHeads = 0, keyDim = 0] = key.shape;
  const rowDim = value.shape[2] ?? 0;
  const lengths = Array.from(input(inputs, "lengths").numbers);
  const queries = Array.from(input(inputs, "queries").numbers);
  const covered = size * (weights?.reduce((sum, weight) => sum + weight, 0) ?? world);
  const columns = Math.max(1, ...lengths.map((length) => Math.ceil(length / covered)));
  const blocks = lengths.length * columns;
  const table = Array.from({ length: blocks }, (_, entry) => blocks - 1 - entry);
  const caches = Array.from({ length: world }, (_, rank) => {
    const blockSize = size * (weights?.[rank] ?? 1);
    const rows = blocks * blockSize * kvHeads;
    const stale = (_: unknown, index: number): number => ((index % 11) - 5) * 0.7;
    return {
      blockSize,
      keys: Float64Array.from({ length: rows * keyDim }, stale),
      values: Float64Array.from({ length: rows * rowDim }, stale),
    };
  });
  let token = 0;
  for (const [sequence, length] of lengths.entries()) {
    const own = table.slice(sequence * columns, (sequence + 1) * columns);
    const kept = mistake === "contiguous-split" || mistake === "offset-not-compacted" ? mistake : undefined;
    for (let position = 0; position < length; position++, token++) {
      const { rank, slot } = slotOf(parameters, position, own, kept);
      const cache = caches[rank];
      if (slot < 0 || cache === undefined) continue;
      for (const [to, from, dim] of [
        [cache.keys, key.numbers, keyDim],
        [cache.values, value.numbers, rowDim],
      ] as const) {
        const width = kvHeads * dim;
        for (let column = 0; column < width; column++) {
          to[slot * width + column] = from[token * width + column] ?? Number.NaN;
        }
      }
    }
  }
  const asked = queries.flatMap((count, sequence) =>
    Array.from({ length: count }, (_, index) => {
      return { sequence, position: Math.max(-1, (lengths[sequence] ?? 0) - count + index) };
    }),
  );
  return {
    query: query.numbers,
    tokens: asked.length,
    heads: query.shape[1] ?? 0,
    kvHeads,
    keyDim,
    rowDim,
    valueDim: parameters.value_dim ?? rowDim,
    isMla: inputs.value === undefined,
    caches,
    table,
    columns,
    sequences: asked.map(({ sequence }) => sequence),
    positions: asked.map(({ position }) => position),
    sinks: inputs.sinks?.numbers,
  };
}
