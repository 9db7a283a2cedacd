// The ops of the conformance corpus.

/** What the cases of an op ask for. */
interface Op {
  /** File of its tensors, without the ending. */
  readonly file: string;
  readonly does: string;
  /** How wrong implementations typically fail. */
  readonly fails: string;
}

/** The ops of the corpus, by the name that the manifest and the adapters of other engines use. */
export const OPS = {
  correct_attn_out: {
    file: "combine",
    does: "Scale each rank's partial output [N,B,H,D] by base^(lse_rank - lse); lse [B,H] is over all ranks. No sum.",
    fails: "Wrong base, NaN from empty shards, NaN or +inf LSEs that are not dropped.",
  },
  merge_attn_states: {
    file: "combine",
    does: "Merge partial outputs [N,T,H,D] by their LSEs [N,T,H] into out [T,H,D] and lse [T,H].",
    fails: "Averages instead of weights, wrong base, 0 * NaN of states without keys.",
  },
  reduce_output: {
    file: "combine",
    does: "All-gather LSEs, correct, reduce-scatter along heads: rank r keeps heads [H*r/N, H*(r+1)/N) (floors).",
    fails: "Heads end on the wrong rank, or a rank keeps its own partial output.",
  },
  a2a_combine: {
    file: "combine",
    does: "The same result by all-to-all: outputs and LSEs of each peer's heads are sent to it, which merges them.",
    fails: "LSEs of other heads travel with the outputs.",
  },
  gather_query: {
    file: "combine",
    does: "All-gather query heads in rank order: rank r brings its chunk of [B,H,D]; every rank gets all.",
    fails: "The gather concatenates along dimension 0 and the result is only viewed as [B,H,D].",
  },
  pack_seq: {
    file: "pack",
    does: "Rows x [T,...] of sequences of `lengths` into [B, max(lengths), ...], filled up with `pad`.",
    fails: "Padding left as it was, rows beyond sum(lengths) taken in, empty sequences skipped.",
  },
  unpack_seq: {
    file: "pack",
    does: "The inverse: [B, Lmax, ...] into [sum(lengths), ...].",
    fails: "Padding copied as if it were tokens.",
  },
  kv_groups: {
    file: "ownership",
    does: "Ranks (PCP, TP innermost) that hold one sequence's KV between them, in the order of the shards [groups, W].",
    fails: "The order of the PCP and TP axes, which differs between the classic and the orthogonal layout.",
  },
  local_lengths: {
    file: "ownership",
    does: "How many of the first L positions each of `world` ranks stores: [W, lengths].",
    fails: "Interleave ignored, remainder lost or given to all.",
  },
  local_ranges: {
    file: "ownership",
    does: "Of positions [start, end): each rank's first local index and how many it stores, both [W, ranges].",
    fails: "The range taken as if it began at 0, or its border as if the interleave were 1.",
  },
  slot_mapping: {
    file: "ownership",
    does: "Cache slot (block * own block size + offset) of each position on each rank [W, positions], or -1.",
    fails: "Block table indexed without the virtual block, offsets not compacted.",
  },
  partial_attention: {
    file: "attention",
    does: "Attention of all heads over each rank's own tokens in a paged cache: out [W,T,Hq,Dv], natural lse [W,T,Hq].",
    fails: "Local lengths that are off, stale slots read, windows or causality by local index, LSE in base 2.",
  },
  decode_step: {
    file: "attention",
    does: "The whole step: gather queries, attend on every rank, combine: out [T,Hq,Dv] in head order, natural lse.",
    fails: "All of the above. The output stays plausible: compare numbers, not text.",
  },
  prefill_parts: {
    file: "prefill",
    does: "Chunks of new tokens: each rank's attention to the contexts before them, the causal one of the chunks, merged.",
    fails: "Masks that are off by one, contexts masked or counted with the chunk, LSEs of other bases or shapes.",
  },
  prefill_step: {
    file: "prefill",
    does: "The whole prefill of chunks over sharded contexts, beside decoding rows: out [T,Hq,Dv], natural lse [T,Hq].",
    fails: "All of the above, windows and sinks of one part only, PCP rows in the order of ranks.",
  },
} as const satisfies Readonly<Record<string, Op>>;

/** A name of {@link OPS}. */
export type OpName = keyof typeof OPS;
