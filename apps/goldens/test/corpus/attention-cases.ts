// Attention over the shards of a paged cache, and the whole step of decoding.
import { Random } from "../../../../libs/kernels/src/testing/random.ts";
import type { CorpusBuilder } from "./corpus-builder.ts";
import { type OpParameters, sizeOf, type Values } from "./corpus-values.ts";
import { type AttentionCase, drawn, integers, pagedCache } from "./drawn-attention.ts";

const HALF = { dtype: "f16", kvDtype: "f16" } as const;
const BRAIN = { dtype: "bf16", kvDtype: "bf16" } as const;
const TWO = { world: 2, interleave: 1, block_size: 4 } as const;

/** What both ops are tried with. */
const FEATURES: readonly AttentionCase[] = [
  ...[1, 2, 3, 4, 5, 8].map((world) => {
    const parameters = { world, interleave: 1, block_size: 4 };
    return { name: `world-${world}`, parameters, lengths: [37, 9] };
  }),
  { name: "interleave-2", parameters: { world: 3, interleave: 2, block_size: 4 }, lengths: [29, 5] },
  { name: "interleave-of-blocks", parameters: { world: 2, interleave: 4, block_size: 4 }, lengths: [30, 6] },
  { name: "mha", parameters: TWO, lengths: [19], heads: [3, 3] },
  { name: "mqa", parameters: TWO, lengths: [19], heads: [5, 1] },
  { name: "odd-dims", parameters: { ...TWO, block_size: 3 }, lengths: [17, 1], heads: [6, 2], dims: [7, 5] },
  { name: "one-token", parameters: { ...TWO, world: 4 }, lengths: [1, 2, 3] },
  { name: "empty-sequences", parameters: TWO, lengths: [0, 6, 0] },
  { name: "all-empty", parameters: TWO, lengths: [0, 0] },
  { name: "several-queries", parameters: { ...TWO, interleave: 2 }, lengths: [21, 7, 4], queries: [4, 1, 4] },
  { name: "window", parameters: { ...TWO, window: 5 }, lengths: [23, 4] },
  { name: "window-of-1", parameters: { ...TWO, world: 3, window: 1 }, lengths: [23, 4], queries: [3, 2] },
  { name: "window-several-queries", parameters: { ...TWO, window: 6 }, lengths: [22], queries: [5] },
  { name: "softcap", parameters: { ...TWO, softcap: 1.5, scale: 0.75 }, lengths: [18, 3] },
  { name: "sinks", parameters: { ...TWO, world: 3 }, lengths: [18, 2, 0], sinks: [0.5, -1, 2, 0] },
  {
    name: "window-softcap-sinks",
    parameters: { ...TWO, window: 7, softcap: 2, scale: 0.5 },
    lengths: [18, 3],
    queries: [3, 2],
    sinks: [1, -1, 0.25, 2],
  },
  { name: "scale", parameters: { ...TWO, scale: 0.125 }, lengths: [18, 3] },
  { name: "large-scores", parameters: { ...TWO, scale: 60 }, lengths: [18, 3] },
  { name: "mla", parameters: { ...TWO, value_dim: 8, scale: 0.25 }, lengths: [17, 5], heads: [3, 1], dims: [12, 8] },
  {
    name: "mla-several-queries",
    parameters: { ...TWO, world: 3, value_dim: 8, scale: 0.25 },
    lengths: [17, 5],
    queries: [3, 2],
    heads: [2, 1],
    dims: [11, 8],
  },
  { name: "f16", parameters: TWO, lengths: [21, 3], ...HALF },
  { name: "bf16", parameters: TWO, lengths: [21, 3], ...BRAIN },
  { name: "mla-bf16", parameters: { ...TWO, value_dim: 8 }, lengths: [17], heads: [3, 1], dims: [12, 8], ...BRAIN },
  {
    name: "nan-key",
    parameters: TWO,
    lengths: [9, 5],
    queries: [3, 1],
    bad: { of: "key", sequence: 0, position: 7, is: Number.NaN },
  },
  {
    name: "infinite-key",
    parameters: { ...TWO, world: 3 },
    lengths: [9, 5],
    bad: { of: "key", sequence: 1, position: 2, is: Number.POSITIVE_INFINITY },
  },
  {
    name: "nan-value",
    parameters: { ...TWO, world: 4 },
    lengths: [9, 5],
    bad: { of: "value", sequence: 0, position: 3, is: Number.NaN },
  },
  {
    name: "nan-key-outside-window",
    parameters: { ...TWO, window: 3 },
    lengths: [9, 5],
    bad: { of: "key", sequence: 0, position: 2, is: Number.NaN },
  },
];

/** For caches that are given: their slots and scales are nobody's business but the kernel's. */
const OF_CACHES: readonly AttentionCase[] = [
  {
    name: "head-group",
    parameters: { ...TWO, head_group: { size: 2, offset: 1 } },
    lengths: [14, 3],
    heads: [3, 2],
  },
  {
    name: "f8e4m3",
    parameters: { ...TWO, key_scale: [0.125, 0.03125], value_scale: [0.0625, 0.25] },
    lengths: [14, 3],
    kvDtype: "f8e4m3",
  },
  {
    name: "i8",
    parameters: { ...TWO, key_scale: [0.03125, 0.015625], value_scale: [0.0625, 0.03125] },
    lengths: [14, 3],
    kvDtype: "i8",
  },
];

const LAYOUTS: readonly OpParameters[] = [
  { layout: "classic", pcp: 1, tp: 4, dcp: 2, world: 2 },
  { layout: "classic", pcp: 2, tp: 2, dcp: 2, world: 4 },
  { layout: "orthogonal", pcp: 2, tp: 2, dcp: 2, world: 2 },
  { layout: "orthogonal", pcp: 2, tp: 2, dcp: 4, world: 4 },
  { layout: "classic", pcp: 1, tp: 4, dcp: 2, world: 2, kv: "head-sharded" },
];

/** For whole steps. */
const OF_STEPS: readonly AttentionCase[] = [
  { name: "weights-3-1", parameters: { ...TWO, interleave: 2, weights: [3, 1] }, lengths: [33, 5], queries: [2, 1] },
  { name: "weights-2-0-1", parameters: { ...TWO, world: 3, weights: [2, 0, 1] }, lengths: [33, 1] },
  ...LAYOUTS.map((layout) => {
    const { pcp, tp, dcp, world = 1, kv } = layout;
    const name = `${layout.layout}-tp${tp}-pcp${pcp}-dcp${dcp}${kv === undefined ? "" : `-${kv}`}`;
    const parameters = { ...layout, world, interleave: 2, block_size: 4 };
    return { name, parameters, lengths: [27, 6], queries: [2, 1] };
  }),
];

/** Adds all of them. */
export function addAttentionCases(builder: CorpusBuilder): void {
  const random = new Random(20_250_704);
  for (const each of [...FEATURES, ...OF_CACHES]) addPartial(builder, each, random);
  for (const each of [...FEATURES, ...OF_STEPS]) addStep(builder, each, random);
  addRefusals(builder, random);
  for (const dtype of ["f8e4m3", "i8"] as const) addRowScales(builder, dtype, random);
}

/** A quantised cache whose rows have scales of their own, powers of 2; those of unused slots are another request's. */
function addRowScales(builder: CorpusBuilder, kvDtype: "f8e4m3" | "i8", random: Random): void {
  const each: AttentionCase = { name: `${kvDtype}-scale-a-token`, parameters: TWO, lengths: [14, 3], kvDtype };
  const inputs = partialInputs(each, random);
  const shape = inputs.key_cache?.shape.slice(0, -1) ?? [];
  const scales = (): Values => {
    const numbers = Array.from({ length: sizeOf(shape) }, () => 2 ** -(3 + random.integer(4)));
    return { dtype: "f32", shape, numbers };
  };
  const op = "partial_attention";
  const given = { ...inputs, key_scales: scales(), value_scales: scales() };
  builder.add({ name: `${op}/${each.name}`, op, parameters: TWO, inputs: given });
}

function addStep(builder: CorpusBuilder, each: AttentionCase, random: Random): void {
  const { query, key, value, sinks, queries } = drawn(each, random);
  const inputs = {
    query,
    key,
    ...(value === undefined ? {} : { value }),
    ...(sinks === undefined ? {} : { sinks }),
    lengths: integers(each.lengths),
    queries: integers(queries),
  };
  builder.add({ name: `decode_step/${each.name}`, op: "decode_step", parameters: each.parameters, inputs });
}

function addPartial(builder: CorpusBuilder, each: AttentionCase, random: Random): void {
  const inputs = partialInputs(each, random);
  builder.add({ name: `partial_attention/${each.name}`, op: "partial_attention", parameters: each.parameters, inputs });
  if (each.name !== "world-3") return;
  // What no token was stored to may be NaN: it must not even be multiplied by 0.
  const poisoned = partialInputs(each, random, Number.NaN);
  const name = "partial_attention/unused-slots-nan";
  builder.add({ name, op: "partial_attention", parameters: each.parameters, inputs: poisoned });
}

function partialInputs(each: AttentionCase, random: Random, poison?: number): Record<string, Values> {
  const { query, key, value, sinks, queries } = drawn(each, random);
  const { world, block_size: size = 1 } = each.parameters;
  const columns = Math.max(1, ...each.lengths.map((length) => Math.ceil(length / (size * world))));
  const blocks = each.lengths.length * columns;
  const table = random.permutation(blocks);
  const cacheOf = (source: Values): Values => {
    return pagedCache(source, each.lengths, each.parameters, table, random, poison);
  };
  const asked = queries.flatMap((count, sequence) =>
    Array.from({ length: count }, (_, index) => {
      return { sequence, position: Math.max(-1, (each.lengths[sequence] ?? 0) - count + index) };
    }),
  );
  return {
    query,
    key_cache: cacheOf(key),
    ...(value === undefined ? {} : { value_cache: cacheOf(value) }),
    ...(sinks === undefined ? {} : { sinks }),
    block_table: { dtype: "i32", shape: [each.lengths.length, columns], numbers: table },
    sequences: integers(asked.map(({ sequence }) => sequence)),
    positions: integers(asked.map(({ position }) => position)),
  };
}

function addRefusals(builder: CorpusBuilder, random: Random): void {
  const plain: AttentionCase = { name: "plain", parameters: TWO, lengths: [9, 3] };
  const inputs = partialInputs(plain, random);
  const partial = (name: string, changed: Record<string, Values>, parameters: OpParameters, refuse: string): void => {
    const op = "partial_attention";
    builder.add({ name: `${op}/${name}`, op, parameters, inputs: { ...inputs, ...changed }, refuse });
  };
  const table = { dtype: "i32", shape: [2, 2], numbers: [0, 1, 99, 2] } as const;
  partial("block-that-is-not-there", { block_table: table }, TWO, "Block 99 of a cache of 4 blocks.");
  partial("window-of-0", {}, { ...TWO, window: 0 }, "A window of 0 positions.");
  partial("softcap-of-0", {}, { ...TWO, softcap: 0 }, "A softcap of 0 would divide by 0.");
  const interleave = { ...TWO, interleave: 3 };
  partial("interleave-no-divisor", {}, interleave, "The interleave must divide the block size.");
  const five = drawn({ ...plain, heads: [5, 2] }, random);
  const { query, key, value } = five;
  const given = { query, key, ...(value === undefined ? {} : { value }) };
  builder.add({
    name: "decode_step/heads-that-do-not-share",
    op: "decode_step",
    parameters: TWO,
    inputs: { ...given, lengths: integers([9, 3]), queries: integers([1, 1]) },
    refuse: "5 query heads cannot share 2 KV heads.",
  });
}
