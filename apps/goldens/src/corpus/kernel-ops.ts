// Ops of the corpus that need no world of ranks, on one backend.
import { dcpCorrectAttnOut, packSeq, unpackSeq } from "@lockstep/attention";
import { parallelGroups } from "@lockstep/dist-groups";
import { kvBlockSize, kvSlot, localLength } from "@lockstep/kernels";
import { Tensor } from "@lockstep/tensor";
import { partialAttention, prefillParts } from "./attention-ops.ts";
import type { CaseParameters } from "./case-parameters.ts";
import { shardsOf } from "./case-shards.ts";
import { computed } from "./computed.ts";
import type { Computed } from "./judge.ts";
import type { KernelOp } from "./kernel-op.ts";
import type { OpName } from "./ops.ts";

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

const localLengths: KernelOp = ({ parameters, input }) => {
  const shards = shardsOf(parameters, "local_lengths");
  const lengths = [...input("lengths").toNumbers()];
  const numbers = shards.flatMap((shard) => lengths.map((length) => localLength(shard, length)));
  return { local: integers([shards.length, lengths.length], numbers) };
};

const localRanges: KernelOp = ({ parameters, input }) => {
  const shards = shardsOf(parameters, "local_ranges");
  const [starts, ends] = [[...input("starts").toNumbers()], [...input("ends").toNumbers()]];
  const first = shards.flatMap((shard) => starts.map((start) => localLength(shard, start)));
  const last = shards.flatMap((shard) => ends.map((end) => localLength(shard, end)));
  const shape = [shards.length, starts.length];
  return {
    first: integers(shape, first),
    count: integers(
      shape,
      last.map((end, at) => end - (first[at] ?? 0)),
    ),
  };
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

/** By name. */
export const KERNEL_OPS: Readonly<Partial<Record<OpName, KernelOp>>> = {
  correct_attn_out: correctAttnOut,
  merge_attn_states: mergeAttnStates,
  pack_seq: pack,
  unpack_seq: unpack,
  kv_groups: kvGroups,
  local_lengths: localLengths,
  local_ranges: localRanges,
  slot_mapping: slotMapping,
  partial_attention: partialAttention,
  prefill_parts: prefillParts,
};
