// Whole steps of the corpus: decoding with every combine, and prefill of chunks over their contexts.
import { type HeadLayoutOptions, headLayout } from "@lockstep/attention";
import { type Arena, Tensor } from "@lockstep/tensor";
import { computed } from "./computed.ts";
import type { WorldOp, WorldOpContext } from "./corpus-world.ts";
import type { CaseResults } from "./judge.ts";

/** The step with every combine. */
export const decodeStep: WorldOp = async (context) => {
  const { world, arena } = context;
  const { step, shape } = stepRun(context);
  const rows = Array.from({ length: shape[0] ?? 0 }, (_, row) => row);
  const results: CaseResults[] = [];
  for (const combine of ["ag-rs", "a2a", "one-shot"] as const) {
    const [out, lse] = emptyResults(arena, world.size, shape);
    const into = { out: out.descriptor, lse: lse.descriptor };
    await world.call("step", [{ ...step, ...into, options: { ...step.options, combine } }]);
    results.push(...wholeResults(context, step.kv, out, lse, new Array(world.size).fill(rows)));
  }
  return results;
};

/** Contexts stored and chunks prefilled, in chunks of the context as the case says and in one. */
export const prefillStep: WorldOp = async (context) => {
  const { world, arena, parameters, input, optional } = context;
  const { step, shape } = stepRun(context);
  const [keyScale, valueScale] = [parameters.numbers("key_scale"), parameters.numbers("value_scale")];
  const [key, value] = [input("key"), optional("value")];
  const stored = {
    key: worth(arena, key, keyScale).descriptor,
    ...(value === undefined ? {} : { value: worth(arena, value, valueScale).descriptor }),
    kvDtype: key.dtype,
    ...(keyScale === undefined ? {} : { keyScale }),
    ...(valueScale === undefined ? {} : { valueScale }),
  };
  const whole = Math.max(1, ...step.lengths);
  const results: CaseResults[] = [];
  for (const prefillChunk of new Set([parameters.number("context_chunk") ?? whole, whole])) {
    const [out, lse] = emptyResults(arena, world.size, shape);
    const into = { out: out.descriptor, lse: lse.descriptor };
    const rows = await world.call("prefill", [{ ...step, ...stored, ...into, prefillChunk }]);
    results.push(...wholeResults(context, step.kv, out, lse, rows));
  }
  return results;
};

/** What the ranks are told of a step, but for where results go; and the shape of the output. */
function stepRun({ sizes, parameters, input, optional }: WorldOpContext) {
  const [query, key, value, sinks] = [input("query"), input("key"), optional("value"), optional("sinks")];
  const [lengths, queries] = [[...input("lengths").toNumbers()], [...input("queries").toNumbers()]];
  const valueDim = value?.dim(2) ?? parameters.number("value_dim") ?? 0;
  parameters.number("value_dim");
  const weights = parameters.numbers("weights");
  const shards = weights?.reduce((sum, weight) => sum + weight, 0) ?? parameters.number("world") ?? 1;
  parameters.number("world");
  const blockSize = parameters.number("block_size") ?? 1;
  const numBlocks = lengths.reduce((sum, length) => sum + Math.ceil(length / (blockSize * shards)), 1);
  const [interleave = 1, scale, softcap, window] = ["interleave", "scale", "softcap", "window"].map((name) =>
    parameters.number(name),
  );
  const step = {
    query: query.descriptor,
    key: key.descriptor,
    ...(value === undefined ? {} : { value: value.descriptor }),
    ...(sinks === undefined ? {} : { sinks: sinks.reshape([1, query.dim(1)]).descriptor }),
    lengths,
    queries,
    sizes,
    kv: parameters.choice("kv", "replicated", "head-sharded"),
    blockSize,
    numBlocks,
    options: {
      interleave,
      ...(weights === undefined ? {} : { weights }),
      ...(scale === undefined ? {} : { scale }),
      ...(softcap === undefined ? {} : { softcap }),
      ...(window === undefined ? {} : { window }),
    },
  };
  return { step, shape: [query.dim(0), query.dim(1), valueDim] };
}

/** Numbers of a quantised tensor [tokens, Hkv, D] times their head's scale, in f32; others as they are. */
function worth(arena: Arena, tensor: Tensor, scales: readonly number[] | undefined): Tensor {
  if (scales === undefined) return tensor;
  const [, heads = 0, dim = 0] = tensor.shape;
  const numbers = Array.from(tensor.toNumbers(), (number, at) => number * (scales[Math.floor(at / dim) % heads] ?? 1));
  return Tensor.from(arena, "f32", tensor.shape, numbers);
}

/** Where ranks put results of so many rows and heads: out [ranks, T, Hq, Dv] and lse [ranks, T, Hq]. */
function emptyResults(arena: Arena, ranks: number, shape: readonly number[]): [out: Tensor, lse: Tensor] {
  const empty = (of: readonly number[]): Tensor => Tensor.empty(arena, "f32", [ranks, ...of]).fill(Number.NaN);
  return [empty(shape), empty(shape.slice(0, 2))];
}

/**
 * Results put together of what ranks have; where several have a row of a head, as many results as it takes to hold
 * what each of them has.
 * @param rows that each rank computed, of its own heads
 */
function wholeResults(
  { sizes, arena, input }: WorldOpContext,
  kv: HeadLayoutOptions["kv"],
  out: Tensor,
  lse: Tensor,
  rows: readonly (readonly number[])[],
): CaseResults[] {
  const heads = { queryHeads: input("query").dim(1), kvHeads: input("key").dim(1) };
  const owners = new Map<string, { row: number; head: number; ranks: number[] }>();
  for (const [rank, own] of rows.entries()) {
    const { start, end } = headLayout({ sizes, kv, ...heads }, rank).ownQueryHeads;
    for (const row of own) {
      for (let head = start; head < end; head++) {
        const owned = owners.get(`${row} ${head}`) ?? { row, head, ranks: [] };
        owned.ranks.push(rank);
        owners.set(`${row} ${head}`, owned);
      }
    }
  }
  const copies = Math.max(1, ...[...owners.values()].map(({ ranks }) => ranks.length));
  return Array.from({ length: copies }, (_, copy) => {
    const empty = (of: Tensor): Tensor => Tensor.empty(arena, "f32", of.shape.slice(1)).fill(Number.NaN);
    const [whole, wholeLse] = [empty(out), empty(lse)];
    for (const { row, head, ranks } of owners.values()) {
      const rank = ranks[copy % ranks.length] ?? 0;
      const of = (tensor: Tensor): Tensor => tensor.select(0, row).slice(0, head, head + 1);
      of(whole).copyFrom(of(out.select(0, rank)));
      of(wholeLse).copyFrom(of(lse.select(0, rank)));
    }
    return { out: computed(whole), lse: computed(wholeLse) };
  });
}
