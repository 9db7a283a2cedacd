// The only list of the ops: what they take, the check that comes first, and what they write.
import { ArgumentError, describe } from "@lockstep/tensor";
import type { Operand } from "../operand.ts";
import { type AttentionBoundsArgs, planAttentionBounds } from "./attention-bounds/index.ts";
import { type CorrectAttnOutArgs, checkCorrectAttnOut } from "./correct-attn-out/index.ts";
import { checkFinishLattice, type FinishLatticeArgs } from "./finish-lattice/index.ts";
import { checkGatherKvCache, type GatherKvCacheArgs } from "./gather-kv-cache/index.ts";
import { type LatticeSumsArgs, planLatticeSums } from "./lattice-sums/index.ts";
import { checkMergeAttnStates, type MergeAttnStatesArgs } from "./merge-attn-states/index.ts";
import { checkPackSeq, type PackSeqArgs } from "./pack-seq/index.ts";
import { type PartialAttentionArgs, planPartialAttention } from "./partial-attention/index.ts";
import { checkUnpackSeq, type UnpackSeqArgs } from "./unpack-seq/index.ts";
import { checkWriteKvCache, type WriteKvCacheArgs } from "./write-kv-cache/index.ts";

/** Arguments of every op, by its name. */
export interface OpArguments {
  /** Of the correction of a rank's partial attention. */
  readonly correctAttnOut: CorrectAttnOutArgs;
  /** Of packing sequences into a padded batch. */
  readonly packSeq: PackSeqArgs;
  /** Of dropping the padding of a batch. */
  readonly unpackSeq: UnpackSeqArgs;
  /** Of merging partial attentions. */
  readonly mergeAttnStates: MergeAttnStatesArgs;
  /** Of storing keys and values in a paged KV cache. */
  readonly writeKvCache: WriteKvCacheArgs;
  /** Of gathering rows of a paged KV cache. */
  readonly gatherKvCache: GatherKvCacheArgs;
  /** Of attention over the tokens that a paged KV cache holds. */
  readonly partialAttention: PartialAttentionArgs;
  /** Of the first pass of world-invariant attention: how large scores and weighted values are. */
  readonly attentionBounds: AttentionBoundsArgs;
  /** Of its second pass: sums that do not depend on order. */
  readonly latticeSums: LatticeSumsArgs;
  /** Of its end: outputs and LSEs of the sums of all ranks. */
  readonly finishLattice: FinishLatticeArgs;
}

/** The name of an op. */
export type OpName = keyof OpArguments;

/** Something of every op that takes its arguments. */
export type OfEveryOp<Result> = { readonly [Name in OpName]: (args: OpArguments[Name]) => Result };

interface Op<Args, Plan> {
  /**
   * Throws ArgumentError unless the arguments fit the op's contract; returns what backends compute from besides them.
   */
  readonly plan: (args: Args) => Plan;
  /** Operands that the op writes. */
  readonly results: (args: Args) => readonly (Operand | undefined)[];
}

const OPS = {
  correctAttnOut: { plan: checkCorrectAttnOut, results: ({ out, lse }) => [out, lse] },
  packSeq: { plan: checkPackSeq, results: ({ out }) => [out] },
  unpackSeq: { plan: checkUnpackSeq, results: ({ out }) => [out] },
  mergeAttnStates: { plan: checkMergeAttnStates, results: ({ out, lse }) => [out, lse] },
  writeKvCache: {
    plan: checkWriteKvCache,
    results: (args) => [args.keyCache, args.valueCache, args.keyScaleCache, args.valueScaleCache],
  },
  gatherKvCache: { plan: checkGatherKvCache, results: ({ rows }) => [rows] },
  partialAttention: {
    plan: planPartialAttention,
    results: ({ sums, out, lse }) => [
      ...(sums === undefined ? [] : [sums.state]),
      ...(sums?.isLast === false ? [] : [out, lse]),
    ],
  },
  attentionBounds: { plan: planAttentionBounds, results: ({ bounds, scores }) => [bounds, scores] },
  latticeSums: { plan: planLatticeSums, results: ({ sums }) => [sums] },
  finishLattice: { plan: checkFinishLattice, results: ({ out, lse }) => [out, lse] },
} as const satisfies { readonly [Name in OpName]: Op<OpArguments[Name], unknown> };

/** What an op's check returns. */
export type PlanOf<Name extends OpName> = ReturnType<(typeof OPS)[Name]["plan"]>;

function opOf<Name extends OpName>(operation: string, name: Name): Op<OpArguments[Name], PlanOf<Name>> {
  const ops: { readonly [Each in OpName]: Op<OpArguments[Each], PlanOf<Each>> } = OPS;
  if (Object.hasOwn(ops, name)) return ops[name];
  throw new ArgumentError(operation, "name", `one of ${Object.keys(OPS).join(", ")}`, describe(name));
}

/** The check that an op makes before anything else: what backends compute from. @throws ArgumentError */
export function planOp<Name extends OpName>(name: Name, args: OpArguments[Name]): PlanOf<Name> {
  return opOf("planOp", name).plan(args);
}

/** The check that op `name` makes of its arguments, for whoever passes them on. @throws ArgumentError */
export function checkArguments<Name extends OpName>(name: Name, args: OpArguments[Name]): void {
  opOf("checkArguments", name).plan(args);
}

/** Operands that an op writes; undefined for those that were left out. */
export function opResults<Name extends OpName>(name: Name, args: OpArguments[Name]): readonly (Operand | undefined)[] {
  return opOf("opResults", name).results(args);
}
