// Ops of the corpus that need no world of ranks, on one backend.
import { dcpCorrectAttnOut, packSeq, unpackSeq } from "@lockstep/attention";
import { parallelGroups } from "@lockstep/dist-groups";
import { checkKvShard, type KernelBackend, type KvShard, kvBlockSize, kvSlot, localLength } from "@lockstep/kernels";
import { type Allocator, type DType, Tensor } from "@lockstep/tensor";
import type { CaseParameters } from "./case-parameters.ts";
import type { CaseResults, Computed } from "./judge.ts";
import type { OpName } from "./ops.ts";

/** What an op works with. */
export interface OpContext {
  readonly backend: KernelBackend;
  readonly allocator: Allocator;
  readonly parameters: CaseParameters;
  /** An input that the op must have. @throws CorpusError */
  readonly input: (name: string) => Tensor;
  /** An input that it may have. */
  readonly optional: (name: string) => Tensor | undefined;
}

type KernelOp = (context: OpContext) => CaseResults | Promise<CaseResults>;

const TYPE_NAMES: Readonly<Partial<Record<DType, string>>> = {
  f32: "F32",
  f16: "F16",
  bf16: "BF16",
  f8e4m3: "F8_E4M3",
  i8: "I8",
  u8: "U8",
  i32: "I32",
};

/** What a tensor holds. */
export function computed(tensor: Tensor): Computed {
  return { typeName: TYPE_NAMES[tensor.dtype] ?? "", shape: tensor.shape, numbers: tensor.toNumbers() };
}

/** Float results are kept in f32 in the corpus, before they are rounded to 16 bits. */
function asF32(tensor: Tensor): Computed {
  return { typeName: "F32", shape: tensor.shape, numbers: tensor.toNumbers() };
}

function integers(shape: readonly number[], numbers: readonly number[]): Computed {
  return { typeName: "I32", shape, numbers };
}

/** The rule for NaN and infinite LSEs by its name here. */
export function nonFiniteOf(parameters: CaseParameters): "original" | "propagate" {
  return parameters.choice("non_finite", "drop", "propagate") === "drop" ? "original" : "propagate";
}

const correctAttnOut: KernelOp = async ({ backend, allocator, parameters, input }) => {
  const [outs, lses] = [input("outs"), input("lses")];
  const base = parameters.choice("base", "e", "2");
  parameters.choice("out_dtype", "f32", "f16", "bf16");
  const corrected = Tensor.empty(allocator, outs.dtype, outs.shape).fill(Number.NaN);
  const nonFinite = nonFiniteOf(parameters);
  let lse: Tensor | undefined;
  for (let rank = 0; rank < outs.dim(0); rank++) {
    const out = corrected.select(0, rank);
    const partial = outs.select(0, rank);
    ({ lse } = await dcpCorrectAttnOut(backend, partial, lses, rank, { base, nonFinite, out, allocator }));
  }
  return { corrected: asF32(corrected), ...(lse === undefined ? {} : { lse: computed(lse) }) };
};

const mergeAttnStates: KernelOp = async ({ backend, allocator, parameters, input }) => {
  const [outs, lses] = [input("outs"), input("lses")];
  const dtype = parameters.choice("out_dtype", "f32", "f16", "bf16");
  const out = Tensor.empty(allocator, dtype, outs.shape.slice(1)).fill(Number.NaN);
  const lse = Tensor.empty(allocator, "f32", lses.shape.slice(1)).fill(Number.NaN);
  const states = (of: Tensor): Tensor[] => Array.from({ length: of.dim(0) }, (_, rank) => of.select(0, rank));
  await backend.mergeAttnStates({
    outs: states(outs),
    lses: states(lses),
    base: parameters.choice("base", "e", "2"),
    nonFinite: nonFiniteOf(parameters),
    out,
    lse,
  });
  return { out: asF32(out), lse: computed(lse) };
};

const pack: KernelOp = async ({ backend, allocator, parameters, input }) => {
  const padValue = parameters.pad();
  return { packed: computed(await packSeq(backend, input("x"), input("lengths"), { padValue, allocator })) };
};

const unpack: KernelOp = async ({ backend, allocator, input }) => {
  return { unpacked: computed(await unpackSeq(backend, input("packed"), input("lengths"), { allocator })) };
};

const kvGroups: KernelOp = ({ parameters }) => {
  const size = (name: string): number => parameters.number(name) ?? 1;
  const layout = parameters.choice("layout", "classic", "orthogonal");
  const { kv } = parallelGroups({ layout, dp: size("dp"), pcp: size("pcp"), tp: size("tp"), dcp: size("dcp") });
  return { groups: integers([kv.length, kv[0]?.length ?? 0], kv.flat()) };
};

/** The shards of all ranks. @throws ArgumentError for those that contradict each other */
function shardsOf(parameters: CaseParameters, operation: string): KvShard[] {
  const count = parameters.number("world") ?? 1;
  const weights = parameters.numbers("weights");
  const interleave = parameters.number("interleave") ?? 1;
  const blockSize = parameters.number("block_size");
  return Array.from({ length: count }, (_, index) => {
    const shard = { index, count, interleave, ...(weights === undefined ? {} : { weights }) };
    checkKvShard(operation, shard, blockSize === undefined ? undefined : kvBlockSize(shard, blockSize));
    return shard;
  });
}

const localLengths: KernelOp = ({ parameters, input }) => {
  const shards = shardsOf(parameters, "local_lengths");
  const lengths = [...input("lengths").toNumbers()];
  const numbers = shards.flatMap((shard) => lengths.map((length) => localLength(shard, length)));
  return { local: integers([shards.length, lengths.length], numbers) };
};

const slotMapping: KernelOp = ({ parameters, input }) => {
  const shards = shardsOf(parameters, "slot_mapping");
  const size = parameters.number("block_size") ?? 1;
  const [positions, table] = [[...input("positions").toNumbers()], input("block_table").toNumbers()];
  const numbers = shards.flatMap((shard) => {
    return positions.map((position) => kvSlot(shard, position, kvBlockSize(shard, size), table));
  });
  return { slots: integers([shards.length, positions.length], numbers) };
};

const partialAttention: KernelOp = async ({ backend, allocator, parameters, input, optional }) => {
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
      // Once for the whole context.
      ...(sinks === undefined || shard.index > 0 ? {} : { sinks }),
      out: out.select(0, shard.index),
      lse: lse.select(0, shard.index),
    });
  }
  return { out: computed(out), lse: computed(lse) };
};

/** By name. */
export const KERNEL_OPS: Readonly<Partial<Record<OpName, KernelOp>>> = {
  correct_attn_out: correctAttnOut,
  merge_attn_states: mergeAttnStates,
  pack_seq: pack,
  unpack_seq: unpack,
  kv_groups: kvGroups,
  local_lengths: localLengths,
  slot_mapping: slotMapping,
  partial_attention: partialAttention,
};
