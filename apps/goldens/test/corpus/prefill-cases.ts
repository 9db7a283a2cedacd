// Chunks of new tokens over sharded contexts: whole steps, and their parts over caches that are given.
import { Random } from "../../../../libs/kernels/src/testing/random.ts";
import type { CorpusBuilder } from "./corpus-builder.ts";
import type { OpParameters, Values } from "./corpus-values.ts";
import { type AttentionCase, drawn, integers, pagedCache } from "./drawn-attention.ts";

/** `queries` are the new tokens of each sequence: the last ones of its length. */
type PrefillCase = AttentionCase & { readonly queries: readonly number[] };

const TWO = { world: 2, interleave: 1, block_size: 4 } as const;
const MLA = { heads: [3, 1], dims: [6, 3] } as const;
const CHUNK = { lengths: [14, 6], queries: [5, 2] } as const;

/** What both ops are tried with. */
const FEATURES: readonly PrefillCase[] = [
  { name: "world-2", parameters: { ...TWO, context_chunk: 4 }, ...CHUNK },
  { name: "world-3-interleave-2", parameters: { ...TWO, world: 3, interleave: 2, context_chunk: 5 }, ...CHUNK },
  // Borders of the context's chunks lie within turns of ranks.
  {
    name: "chunk-border",
    parameters: { ...TWO, interleave: 4, context_chunk: 7 },
    lengths: [27, 13],
    queries: [4, 3],
  },
  { name: "no-context", parameters: TWO, lengths: [5, 1], queries: [5, 1] },
  // Of 8 ranks one holds all of each context; the others' shards are empty.
  { name: "empty-shards", parameters: { ...TWO, world: 8, interleave: 4 }, lengths: [7, 3], queries: [4, 2] },
  // A decoding row, a prompt of one token, a later chunk, a first one, one that asks nothing, a draft of two.
  { name: "mixed-batch", parameters: TWO, lengths: [9, 1, 9, 5, 6, 8], queries: [1, 1, 4, 5, 0, 2] },
  { name: "mla", parameters: { ...TWO, value_dim: 3, scale: 0.25, context_chunk: 3 }, ...CHUNK, ...MLA },
  { name: "softcap-scale", parameters: { ...TWO, softcap: 1.5, scale: 0.75 }, lengths: [11], queries: [4] },
  { name: "bf16", parameters: TWO, ...CHUNK, dtype: "bf16" },
  {
    name: "f8e4m3",
    parameters: { ...TWO, key_scale: [0.125, 0.03125], value_scale: [0.0625, 0.25] },
    ...CHUNK,
    kvDtype: "f8e4m3",
  },
  {
    name: "nan-key-of-context",
    parameters: { ...TWO, world: 3 },
    ...CHUNK,
    bad: { of: "key", sequence: 0, position: 4, is: Number.NaN },
  },
  // Tokens before it must not show it.
  {
    name: "nan-key-of-chunk",
    parameters: TWO,
    ...CHUNK,
    bad: { of: "key", sequence: 0, position: 11, is: Number.NaN },
  },
];

const pcp = (layout: "classic" | "orthogonal", tp: number, size: number, dcp: number, world: number): OpParameters => {
  return { layout, pcp: size, tp, dcp, world };
};
const LAYOUTS: readonly OpParameters[] = [
  pcp("classic", 1, 2, 1, 2),
  pcp("classic", 2, 2, 2, 4),
  pcp("classic", 1, 3, 1, 3),
  pcp("orthogonal", 2, 2, 1, 1),
  pcp("orthogonal", 2, 2, 2, 2),
  pcp("orthogonal", 2, 2, 4, 4),
  pcp("classic", 4, 1, 2, 2),
  { ...pcp("classic", 4, 1, 2, 2), kv: "head-sharded" },
  { ...pcp("classic", 4, 2, 2, 4), kv: "head-sharded" },
];

/** For whole steps. */
const OF_STEPS: readonly PrefillCase[] = [
  ...[1, 3, 4, 5, 8].map((world) => ({ name: `world-${world}`, parameters: { ...TWO, world }, ...CHUNK })),
  { name: "interleave-of-blocks", parameters: { ...TWO, interleave: 4, context_chunk: 6 }, ...CHUNK },
  { name: "weights-3-1", parameters: { ...TWO, interleave: 2, weights: [3, 1], context_chunk: 5 }, ...CHUNK },
  { name: "weights-2-0-1", parameters: { ...TWO, world: 3, weights: [2, 0, 1] }, ...CHUNK },
  { name: "one-token", parameters: { ...TWO, world: 4 }, lengths: [1], queries: [1] },
  { name: "context-chunk-of-1", parameters: { ...TWO, context_chunk: 1 }, ...CHUNK },
  { name: "mha", parameters: TWO, ...CHUNK, heads: [2, 2] },
  { name: "mqa", parameters: TWO, ...CHUNK, heads: [3, 1] },
  { name: "odd-dims", parameters: { ...TWO, block_size: 3 }, ...CHUNK, heads: [6, 2], dims: [7, 5] },
  { name: "window-beyond-chunk", parameters: { ...TWO, window: 8, context_chunk: 3 }, ...CHUNK },
  { name: "window-within-chunk", parameters: { ...TWO, world: 3, window: 3 }, lengths: [13, 4], queries: [6, 4] },
  { name: "window-of-1", parameters: { ...TWO, window: 1 }, ...CHUNK },
  { name: "sinks", parameters: { ...TWO, world: 3 }, lengths: [14, 3], queries: [5, 3], sinks: [0.5, -1, 2, 0] },
  {
    name: "window-softcap-sinks",
    parameters: { ...TWO, window: 6, softcap: 2, scale: 0.5 },
    ...CHUNK,
    sinks: [1, -1, 0.25, 2],
  },
  { name: "mla-mixed-batch", parameters: { ...TWO, world: 3, value_dim: 3 }, lengths: [9, 8], queries: [1, 5], ...MLA },
  { name: "mla-f16", parameters: { ...TWO, value_dim: 3 }, ...CHUNK, ...MLA, dtype: "f16" },
  { name: "f16", parameters: TWO, ...CHUNK, dtype: "f16" },
  {
    name: "i8",
    parameters: { ...TWO, key_scale: [0.03125, 0.015625], value_scale: [0.0625, 0.03125] },
    ...CHUNK,
    kvDtype: "i8",
  },
  {
    name: "nan-value",
    parameters: { ...TWO, world: 4 },
    ...CHUNK,
    bad: { of: "value", sequence: 0, position: 3, is: Number.NaN },
  },
  {
    name: "infinite-key",
    parameters: TWO,
    ...CHUNK,
    bad: { of: "key", sequence: 1, position: 2, is: Number.POSITIVE_INFINITY },
  },
  {
    name: "nan-key-outside-window",
    parameters: { ...TWO, window: 4 },
    ...CHUNK,
    bad: { of: "key", sequence: 0, position: 5, is: Number.NaN },
  },
  ...LAYOUTS.map((layout) => {
    const { tp, pcp: size, dcp, kv, world = 1 } = layout;
    const name = `${layout.layout}-tp${tp}-pcp${size}-dcp${dcp}${kv === undefined ? "" : `-${kv}`}`;
    const parameters = { ...layout, world, interleave: 2, block_size: 4 };
    // 4 tokens are as many for the head and the tail of both ranks of PCP; 3 and 1 are not.
    return { name, parameters, lengths: [10, 4, 5], queries: [4, 3, 1] };
  }),
  {
    name: "pcp-window-sinks",
    parameters: { ...pcp("classic", 1, 2, 1, 2), world: 2, block_size: 4, window: 5 },
    lengths: [13, 2],
    queries: [8, 2],
    sinks: [0.5, -1, 2, 0],
  },
  {
    name: "pcp-mla",
    parameters: { ...pcp("classic", 2, 2, 2, 4), world: 4, block_size: 4, value_dim: 3 },
    lengths: [12, 5],
    queries: [4, 4],
    heads: [4, 1],
    dims: [6, 3],
  },
];

const DIMS = [5, 3] as const;

/** Adds all of them. */
export function addPrefillCases(builder: CorpusBuilder): void {
  const random = new Random(20_261_128);
  for (const each of FEATURES) addParts(builder, { dims: DIMS, ...each }, random);
  addSharedBlocks(builder, random);
  for (const each of [...FEATURES, ...OF_STEPS]) addStep(builder, { dims: DIMS, ...each }, random);
  addRefusals(builder, random);
}

function addStep(builder: CorpusBuilder, each: PrefillCase, random: Random): void {
  const { query, key, value, sinks } = drawn(each, random);
  const inputs = {
    query,
    key,
    ...(value === undefined ? {} : { value }),
    ...(sinks === undefined ? {} : { sinks }),
    lengths: integers(each.lengths),
    queries: integers(each.queries),
  };
  builder.add({ name: `prefill_step/${each.name}`, op: "prefill_step", parameters: each.parameters, inputs });
}

function addParts(builder: CorpusBuilder, each: PrefillCase, random: Random): void {
  const inputs = partsInputs(each, random);
  builder.add({ name: `prefill_parts/${each.name}`, op: "prefill_parts", parameters: each.parameters, inputs });
}

function partsInputs(each: PrefillCase, random: Random): Record<string, Values> {
  const { query, key, value } = drawn(each, random);
  const { lengths, queries, parameters } = each;
  const columns = Math.max(...lengths.map((length) => Math.ceil(length / (TWO.block_size * parameters.world))));
  const table = random.permutation(lengths.length * columns);
  const cacheOf = (source: Values): Values => pagedCache(source, lengths, parameters, table, random);
  return {
    query,
    key: newRows(key, lengths, queries, parameters.key_scale),
    ...(value === undefined ? {} : { value: newRows(value, lengths, queries, parameters.value_scale) }),
    key_cache: cacheOf(key),
    ...(value === undefined ? {} : { value_cache: cacheOf(value) }),
    block_table: { dtype: "i32", shape: [lengths.length, columns], numbers: table },
    lengths: integers(lengths),
    queries: integers(queries),
  };
}

/** The rows of new tokens; those of quantised caches as what they are worth, in f32, which holds it exactly. */
function newRows(
  { dtype, shape, numbers }: Values,
  lengths: readonly number[],
  queries: readonly number[],
  scales: readonly number[] | undefined,
): Values {
  const [, kvHeads = 0, dim = 0] = shape;
  const kept: number[] = [];
  let end = 0;
  for (const [sequence, length] of lengths.entries()) {
    end += length;
    for (let token = end - (queries[sequence] ?? 0); token < end; token++) {
      for (let at = 0; at < kvHeads * dim; at++) {
        kept.push((numbers[token * kvHeads * dim + at] ?? Number.NaN) * (scales?.[Math.floor(at / dim)] ?? 1));
      }
    }
  }
  const tokens = queries.reduce((sum, count) => sum + count, 0);
  return { dtype: scales === undefined ? dtype : "f32", shape: [tokens, kvHeads, dim], numbers: kept };
}

/** Two sequences that begin alike share the blocks of their beginning, as prefix caches and forks do. */
function addSharedBlocks(builder: CorpusBuilder, random: Random): void {
  const each: PrefillCase = { name: "shared-blocks", parameters: TWO, lengths: [19, 19], queries: [3, 3], dims: DIMS };
  const inputs = partsInputs(each, random);
  // Both read the first two blocks of the first sequence: 16 positions.
  const numbers = Array.from(inputs.block_table?.numbers ?? []);
  const [first = 0, second = 0] = numbers;
  numbers.splice(3, 2, first, second);
  const table: Values = { dtype: "i32", shape: [2, 3], numbers };
  const name = "prefill_parts/shared-blocks";
  builder.add({ name, op: "prefill_parts", parameters: TWO, inputs: { ...inputs, block_table: table } });
}

function addRefusals(builder: CorpusBuilder, random: Random): void {
  const plain: PrefillCase = { name: "plain", parameters: TWO, lengths: [9, 3], queries: [4, 3], dims: DIMS };
  const { query, key, value } = drawn(plain, random);
  const given = { query, key, ...(value === undefined ? {} : { value }) };
  const step = (name: string, parameters: OpParameters, queries: readonly number[], refuse: string): void => {
    const inputs = { ...given, lengths: integers([9, 3]), queries: integers(queries) };
    builder.add({ name: `prefill_step/${name}`, op: "prefill_step", parameters, inputs, refuse });
  };
  step("more-new-tokens-than-length", TWO, [3, 4], "4 new tokens of a sequence of 3.");
  step("context-chunk-of-0", { ...TWO, context_chunk: 0 }, [4, 3], "A context in chunks of 0 positions.");
  step("window-of-0", { ...TWO, window: 0 }, [4, 3], "A window of 0 positions.");
  step("interleave-no-divisor", { ...TWO, interleave: 3 }, [4, 3], "The interleave must divide the block size.");
  const inputs = partsInputs(plain, random);
  const table: Values = { dtype: "i32", shape: [2, 2], numbers: [99, 0, 1, 2] };
  builder.add({
    name: "prefill_parts/block-that-is-not-there",
    op: "prefill_parts",
    parameters: TWO,
    inputs: { ...inputs, block_table: table },
    refuse: "Block 99 of a cache of 4 blocks.",
  });
}
