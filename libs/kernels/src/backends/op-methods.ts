import type { AttentionBoundsArgs } from "../ops/attention-bounds/index.ts";
import type { CorrectAttnOutArgs } from "../ops/correct-attn-out/index.ts";
import type { FinishLatticeArgs } from "../ops/finish-lattice/index.ts";
import type { GatherKvCacheArgs } from "../ops/gather-kv-cache/index.ts";
import type { LatticeSumsArgs } from "../ops/lattice-sums/index.ts";
import type { MergeAttnStatesArgs } from "../ops/merge-attn-states/index.ts";
import type { OfEveryOp, OpArguments, OpName } from "../ops/op-table.ts";
import type { PackSeqArgs } from "../ops/pack-seq/index.ts";
import type { PartialAttentionArgs } from "../ops/partial-attention/index.ts";
import type { UnpackSeqArgs } from "../ops/unpack-seq/index.ts";
import type { WriteKvCacheArgs } from "../ops/write-kv-cache/index.ts";
import type { Completion } from "./backend.ts";

/** The methods of a backend's ops, all of which go one way. */
export abstract class OpMethods implements OfEveryOp<Completion> {
  /** Runs an op. */
  protected abstract op<Name extends OpName>(name: Name, args: OpArguments[Name]): Completion;

  /** Weighs a rank's partial attention by its share of all ranks' LSEs: see {@link CorrectAttnOutArgs}. */
  correctAttnOut(args: CorrectAttnOutArgs): Completion {
    return this.op("correctAttnOut", args);
  }

  /** Packs sequences into a padded batch: see {@link PackSeqArgs}. */
  packSeq(args: PackSeqArgs): Completion {
    return this.op("packSeq", args);
  }

  /** Drops the padding of a batch: see {@link UnpackSeqArgs}. */
  unpackSeq(args: UnpackSeqArgs): Completion {
    return this.op("unpackSeq", args);
  }

  /** Merges partial attentions by their LSEs: see {@link MergeAttnStatesArgs}. */
  mergeAttnStates(args: MergeAttnStatesArgs): Completion {
    return this.op("mergeAttnStates", args);
  }

  /** Stores keys and values in a paged KV cache: see {@link WriteKvCacheArgs}. */
  writeKvCache(args: WriteKvCacheArgs): Completion {
    return this.op("writeKvCache", args);
  }

  /** Gathers rows of a paged KV cache: see {@link GatherKvCacheArgs}. */
  gatherKvCache(args: GatherKvCacheArgs): Completion {
    return this.op("gatherKvCache", args);
  }

  /** Attends over the tokens that a paged KV cache holds: see {@link PartialAttentionArgs}. */
  partialAttention(args: PartialAttentionArgs): Completion {
    return this.op("partialAttention", args);
  }

  /** How large scores and weighted values are, for world-invariant sums: see {@link AttentionBoundsArgs}. */
  attentionBounds(args: AttentionBoundsArgs): Completion {
    return this.op("attentionBounds", args);
  }

  /** Sums of attention that do not depend on order: see {@link LatticeSumsArgs}. */
  latticeSums(args: LatticeSumsArgs): Completion {
    return this.op("latticeSums", args);
  }

  /** Outputs and LSEs of world-invariant sums: see {@link FinishLatticeArgs}. */
  finishLattice(args: FinishLatticeArgs): Completion {
    return this.op("finishLattice", args);
  }
}
