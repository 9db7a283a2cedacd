// Every op of the corpus in float64, and the mistakes that are known of each.
import type { OpName } from "../../src/corpus/ops.ts";
import { decodeStep, partialAttention } from "./attention-ops.ts";
import { a2aCombine, correctAttnOut, gatherQuery, mergeAttnStates, reduceOutput } from "./combine-ops.ts";
import type { Float64Op } from "./corpus-values.ts";
import { kvGroups, localLengths, localRanges, slotMapping } from "./ownership-ops.ts";
import { packSeq, unpackSeq } from "./pack-ops.ts";
import { prefillParts, prefillStep } from "./prefill-ops.ts";

interface KnownOp {
  readonly compute: Float64Op;
  readonly mistakes: readonly string[];
}

const COMBINE = [
  "lse-base-swapped",
  "mean-weights",
  "unweighted-sum",
  "no-max-subtraction",
  "non-finite-lse-kept",
  "bad-shard-dropped",
  "lse-of-one-rank",
  "empty-rank-output-kept",
  "empty-row-nan",
  "swapped-ranks",
];

const ATTEND = [
  "lse-in-base-2",
  "empty-lse-zero",
  "empty-row-nan",
  "interleave-one",
  "even-split",
  "floor-split",
  "newest-token-missing",
  "stale-tail",
  "window-over-local-indexes",
  "window-missing",
  "causal-by-local-index",
  "kv-head-modulo",
  "head-offset-missing",
  "scale-missing",
  "softcap-missing",
  "sinks-missing",
  "sinks-on-every-rank",
  "mla-values-from-the-end",
  "kv-scale-missing",
  "nan-key-hidden",
];

/** Of both ops of prefill. */
const PREFILL = [
  "lse-base-swapped",
  "mean-weights",
  "bad-shard-dropped",
  "empty-lse-zero",
  "empty-row-nan",
  "own-key-missing",
  "next-key-seen",
  "chunk-not-causal",
  "context-causal",
  "context-missing",
  "chunk-missing",
  "chunk-seen-twice",
  "border-key-twice",
  "last-context-chunk-only",
  "context-lse-in-base-2",
  "context-lse-not-transposed",
  "context-base-swapped",
  "parts-base-swapped",
  "softcap-missing",
  "kv-scale-missing",
  "mla-values-from-the-end",
  "nan-key-hidden",
];

const DEALING = ["interleave-one", "weights-ignored"];

/** By the names of the manifest. */
export const FLOAT64_OPS: Readonly<Record<OpName, KnownOp>> = {
  correct_attn_out: { compute: correctAttnOut, mistakes: COMBINE },
  merge_attn_states: { compute: mergeAttnStates, mistakes: COMBINE },
  reduce_output: { compute: reduceOutput, mistakes: [...COMBINE, "no-reduction"] },
  a2a_combine: { compute: a2aCombine, mistakes: [...COMBINE, "a2a-lse-of-other-heads"] },
  gather_query: { compute: gatherQuery, mistakes: ["gathered-along-batch", "heads-interleaved", "swapped-ranks"] },
  pack_seq: { compute: packSeq, mistakes: ["pad-zero", "packed-to-the-right", "last-token-dropped"] },
  unpack_seq: { compute: unpackSeq, mistakes: ["padding-not-skipped", "packed-to-the-right"] },
  kv_groups: { compute: kvGroups, mistakes: ["tp-ordered-group", "strided-groups", "neighbour-groups"] },
  local_lengths: {
    compute: localLengths,
    mistakes: [...DEALING, "even-split", "floor-split", "newest-token-missing"],
  },
  local_ranges: { compute: localRanges, mistakes: [...DEALING, "border-from-length"] },
  slot_mapping: {
    compute: slotMapping,
    mistakes: [...DEALING, "contiguous-split", "offset-not-compacted", "swapped-ranks"],
  },
  partial_attention: { compute: partialAttention, mistakes: ATTEND },
  decode_step: {
    compute: decodeStep,
    mistakes: [...ATTEND, ...COMBINE, "contiguous-split", "offset-not-compacted", "a2a-lse-of-other-heads"],
  },
  prefill_parts: {
    compute: prefillParts,
    mistakes: [...PREFILL, "border-from-length", "interleave-one", "even-split", "stale-tail"],
  },
  prefill_step: {
    compute: prefillStep,
    mistakes: [
      ...PREFILL,
      "chunk-offset-missing",
      "window-missing",
      "window-in-chunk-only",
      "sinks-missing",
      "sinks-on-every-rank",
      "sinks-in-both-parts",
      "first-row-of-previous",
      "pcp-own-keys-only",
      "head-tail-not-restored",
    ],
  },
};
