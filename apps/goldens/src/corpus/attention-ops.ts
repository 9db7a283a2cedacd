// Attention over each rank's share of a paged cache, on one backend.
import type { KvShard } from "@lockstep/kernels";
import { type Allocator, Tensor } from "@lockstep/tensor";
import { shardsOf } from "./case-shards.ts";
import { computed } from "./computed.ts";
import type { KernelOp } from "./kernel-op.ts";

/** Each rank's attention over its own tokens in a paged cache. */
export const partialAttention: KernelOp = async ({ backend, allocator, parameters, input, optional }) => {
  const [query, keys, values] = [input("query"), input("key_cache"), optional("value_cache")];
  const [sequences, positions] = [input("sequences").toNumbers(), input("positions").toNumbers()];
  const shape = [keys.dim(0), query.dim(0), query.dim(1)];
  const valueDim = values?.dim(4) ?? parameters.number("value_dim") ?? 0;
  const out = Tensor.empty(allocator, "f32", [...shape, valueDim]).fill(Number.NaN);
  const lse = Tensor.empty(allocator, "f32", shape).fill(Number.NaN);
  const [scale, softcap, window] = ["scale", "softcap", "window"].map((name) => parameters.number(name));
  const [keyScale, valueScale] = [parameters.numbers("key_scale"), parameters.numbers("value_scale")];
  // Values of MLA are keys.
  const valueScales = values === undefined ? keyScale : valueScale;
  const [headGroup, sinks] = [parameters.headGroup(), optional("sinks")];
  // Scales of rows [ranks, blocks, block size, Hkv].
  const [keyScales, valueScalesOfRows] = [optional("key_scales"), optional("value_scales")];
  const ofRank = (scales: Tensor, rank: number): Tensor =>
    scales.select(0, rank).reshape([...scales.shape.slice(1), 1]);
  parameters.number("value_dim");
  for (const shard of shardsOf(parameters, "partial_attention")) {
    const keyCache = keys.select(0, shard.index);
    await backend.partialAttention({
      query,
      keyCache,
      valueCache: values?.select(0, shard.index) ?? keyCache.slice(3, 0, valueDim),
      blockTable: input("block_table"),
      sequences,
      positions,
      shard,
      ...(scale === undefined ? {} : { scale }),
      ...(softcap === undefined ? {} : { softcap }),
      ...(window === undefined ? {} : { window }),
      ...(headGroup === undefined ? {} : { headGroup }),
      ...(keyScale === undefined ? {} : { keyScale }),
      ...(valueScales === undefined ? {} : { valueScale: valueScales }),
      ...(keyScales === undefined ? {} : { keyScaleCache: ofRank(keyScales, shard.index) }),
      ...(valueScalesOfRows === undefined ? {} : { valueScaleCache: ofRank(valueScalesOfRows, shard.index) }),
      // Once for the whole context.
      ...(sinks === undefined || shard.index > 0 ? {} : { sinks }),
      out: out.select(0, shard.index),
      lse: lse.select(0, shard.index),
    });
  }
  return { out: computed(out), lse: computed(lse) };
};

/**
 * Chunks over their contexts in parts: each rank's context by positions that end where it ends, the chunks in a cache
 * of their own, whose blocks are single tokens, and all of these states merged.
 */
export const prefillParts: KernelOp = async ({ backend, allocator, parameters, input, optional }) => {
  const [query, keys, values] = [input("query"), input("key_cache"), optional("value_cache")];
  const [lengths, queries] = [[...input("lengths").toNumbers()], [...input("queries").toNumbers()]];
  const valueDim = values?.dim(4) ?? parameters.number("value_dim") ?? 0;
  const [scale, softcap] = [parameters.number("scale"), parameters.number("softcap")];
  const [keyScale, valueScale] = [parameters.numbers("key_scale"), parameters.numbers("value_scale")];
  const valueScales = values === undefined ? keyScale : valueScale;
  for (const name of ["value_dim", "context_chunk"]) parameters.number(name);
  const tokens = queries.flatMap((count, sequence) =>
    Array.from({ length: count }, (_, index) => ({ sequence, index })),
  );
  const sequences = Int32Array.from(tokens, ({ sequence }) => sequence);
  const rows = [query.dim(0), query.dim(1)];
  const states = (leading: readonly number[]): { out: Tensor; lse: Tensor } => {
    const out = Tensor.empty(allocator, "f32", [...leading, ...rows, valueDim]).fill(Number.NaN);
    return { out, lse: Tensor.empty(allocator, "f32", [...leading, ...rows]).fill(Number.NaN) };
  };
  const scores = { ...(scale === undefined ? {} : { scale }), ...(softcap === undefined ? {} : { softcap }) };

  const context = states([keys.dim(0)]);
  const ends = Int32Array.from(sequences, (sequence) => (lengths[sequence] ?? 0) - (queries[sequence] ?? 0) - 1);
  for (const shard of shardsOf(parameters, "prefill_parts")) {
    const keyCache = keys.select(0, shard.index);
    await backend.partialAttention({
      query,
      keyCache,
      valueCache: values?.select(0, shard.index) ?? keyCache.slice(3, 0, valueDim),
      blockTable: input("block_table"),
      sequences,
      positions: ends,
      shard,
      ...scores,
      ...(keyScale === undefined ? {} : { keyScale }),
      ...(valueScales === undefined ? {} : { valueScale: valueScales }),
      out: context.out.select(0, shard.index),
      lse: context.lse.select(0, shard.index),
    });
  }

  const chunk = states([]);
  const singles = (of: Tensor): Tensor => of.reshape([of.dim(0), 1, of.dim(1), of.dim(2)]);
  const key = singles(input("key"));
  const value = optional("value");
  await backend.partialAttention({
    query,
    keyCache: key,
    valueCache: value === undefined ? key.slice(3, 0, valueDim) : singles(value),
    blockTable: chunkTable(allocator, queries),
    sequences,
    positions: Int32Array.from(tokens, ({ index }) => index),
    shard: WHOLE,
    ...scores,
    ...chunk,
  });

  const whole = states([]);
  const parts = (of: Tensor, last: Tensor): Tensor[] => {
    return [...Array.from({ length: of.dim(0) }, (_, rank) => of.select(0, rank)), last];
  };
  const [outs, lses] = [parts(context.out, chunk.out), parts(context.lse, chunk.lse)];
  await backend.mergeAttnStates({ outs, lses, base: "e", nonFinite: "propagate", ...whole });
  return {
    context_out: computed(context.out),
    context_lse: computed(context.lse),
    chunk_out: computed(chunk.out),
    chunk_lse: computed(chunk.lse),
    out: computed(whole.out),
    lse: computed(whole.lse),
  };
};

const WHOLE: KvShard = { index: 0, count: 1, interleave: 1 };

/** Blocks of one new token each [B, longest]: those of each sequence, one after another. */
function chunkTable(allocator: Allocator, queries: readonly number[]): Tensor {
  const columns = Math.max(1, ...queries);
  let first = 0;
  const rows = queries.flatMap((count) => {
    const row = Array.from({ length: columns }, (_, index) => (index < count ? first + index : 0));
    first += count;
    return row;
  });
  return Tensor.from(allocator, "i32", [queries.length, columns], rows);
}
