import { ArgumentError, describe } from "@lockstep/tensor";
import type { CorrectAttnOutArgs } from "../ops/correct-attn-out/index.ts";
import { checkCorrectAttnOut } from "../ops/correct-attn-out/index.ts";
import { checkGatherKvCache, type GatherKvCacheArgs } from "../ops/gather-kv-cache/index.ts";
import { checkMergeAttnStates, type MergeAttnStatesArgs } from "../ops/merge-attn-states/index.ts";
import { checkPackSeq, type PackSeqArgs } from "../ops/pack-seq/index.ts";
import { type PartialAttentionArgs, planPartialAttention } from "../ops/partial-attention/index.ts";
import { checkUnpackSeq, type UnpackSeqArgs } from "../ops/unpack-seq/index.ts";
import { checkWriteKvCache, type WriteKvCacheArgs } from "../ops/write-kv-cache/index.ts";

/** Arguments of every op, by its name in {@link KernelBackend}. */
export interface OpArguments {
  readonly correctAttnOut: CorrectAttnOutArgs;
  readonly packSeq: PackSeqArgs;
  readonly unpackSeq: UnpackSeqArgs;
  readonly mergeAttnStates: MergeAttnStatesArgs;
  readonly writeKvCache: WriteKvCacheArgs;
  readonly gatherKvCache: GatherKvCacheArgs;
  readonly partialAttention: PartialAttentionArgs;
}

export type OpName = keyof OpArguments;

type Check<Name extends OpName> = (args: OpArguments[Name]) => unknown;

const CHECKS: { readonly [Name in OpName]: Check<Name> } = {
  correctAttnOut: checkCorrectAttnOut,
  packSeq: checkPackSeq,
  unpackSeq: checkUnpackSeq,
  mergeAttnStates: checkMergeAttnStates,
  writeKvCache: checkWriteKvCache,
  gatherKvCache: checkGatherKvCache,
  partialAttention: planPartialAttention,
};

/** The check that an op makes before anything else, for whoever passes arguments on. @throws ArgumentError */
export function checkArguments<Name extends OpName>(name: Name, args: OpArguments[Name]): void {
  const check: Check<Name> | undefined = Object.hasOwn(CHECKS, name) ? CHECKS[name] : undefined;
  if (check === undefined) {
    throw new ArgumentError("checkArguments", "name", `one of ${Object.keys(CHECKS).join(", ")}`, describe(name));
  }
  check(args);
}
