import type { Determinism, ProcessGroup } from "@lockstep/dist-groups";
import type { KernelBackend, LseBase } from "@lockstep/kernels";
import type { DType, SharedHeap, Tensor } from "@lockstep/tensor";
import type { Combine } from "../combine/combine.ts";
import type { KvScaling } from "../kv/kv-scales.ts";

/** Options of {@link DcpAttention.open}. */
export interface DcpAttentionOptions {
  /** Computes partial attention and stores the KV cache. */
  readonly backend: KernelBackend;
  /**
   * Combines partial outputs. Default: `backend`; a webgpu one combines on its GPU, so that only what peers own crosses
   * the host. A wasm one beside webgpu combines in the shared heap.
   */
  readonly mergeBackend?: KernelBackend;
  /** This rank's heap. */
  readonly heap: SharedHeap;
  /**
   * Ranks over which the tokens of these KV heads are sharded, in the order of the shards. In the classic layout with
   * PCP > 1 these are PCP * DCP ranks (`parallelGroups().kv`).
   */
  readonly dcpGroup: ProcessGroup;
  /** Ranks whose query heads are gathered. Default: `dcpGroup`, as in the classic layout. */
  readonly queryGroup?: ProcessGroup;
  /** Layers, each of which has a KV cache. */
  readonly layers: number;
  /** Query heads of the whole query group; each rank brings its chunk of them. */
  readonly queryHeads: number;
  /** KV heads stored on this rank; 1 for MLA. */
  readonly kvHeads: number;
  /** Size of a query or key row (Dk). */
  readonly headDim: number;
  /** Size of a value row (Dv). Default: headDim. */
  readonly valueDim?: number;
  /**
   * Multi-head latent attention with absorbed queries: one latent KV head, whose first valueDim columns are the values;
   * no second copy is stored, and steps bring no values. Default false.
   */
  readonly mla?: boolean;
  /** Which query heads share a KV head, when the query group holds only some of the stored KV heads' query heads. */
  readonly headGroup?: { readonly size: number; readonly offset: number };
  /** Dtype of the stored keys and values: f32, f16, bf16, or quantised f8e4m3 or i8. */
  readonly kvDtype: DType;
  /**
   * Scales of a quantised cache (f8e4m3, i8). "per-token": one for every token and KV head, found when it is stored and
   * kept beside it in f32. Or given, for all layers or for each. Left out for other caches. Default "per-token".
   */
  readonly kvScales?: KvScaling;
  /** Dtype in which queries come: f32, f16 or bf16. Default "f32". */
  readonly queryDtype?: DType;
  /** "f8e4m3": queries are rounded to 8 bits before they are gathered. Default: the queryDtype. */
  readonly gatherDtype?: DType;
  /** What queries are divided by before they are rounded to f8e4m3, so that they lie within +-448. Default 1. */
  readonly queryScale?: number;
  /**
   * Dtype in which ranks exchange their partial outputs; LSEs stay f32. f16 and bf16 halve what leaves a GPU and what
   * peers read, and round each partial output once. They go with the combines a2a and auto. Default "f32".
   */
  readonly partialDtype?: DType;
  /** Every rank brings the queries of all heads of the query group, and nothing is gathered. Default false. */
  readonly queryReplicated?: boolean;
  /** Tokens per block on a rank of weight 1. */
  readonly blockSize: number;
  /** Consecutive tokens a rank stores before the next rank's turn; divides blockSize. Default 1. */
  readonly interleave?: number;
  /**
   * Share of every context that each rank of the dcpGroup stores, in its order: integers, of which one at least is not
   * 0. Rank r stores weights[r] * interleave consecutive tokens before the next rank's turn, and weights[r] * blockSize
   * tokens of each block. A rank of weight 0 stores nothing and attends to nothing, but serves its query heads. A
   * prefill's chunks are rounded up to whole tiles of keys of every rank, so small weights without a common factor
   * (3, 1) are best. Default: 1 each.
   */
  readonly weights?: readonly number[];
  /**
   * Blocks, shared by all layers' tables. Each holds blockSize * dcpGroup.size tokens (with weights: blockSize * their
   * sum), of which this rank stores blockSize (with weights: blockSize * its own).
   */
  readonly numBlocks: number;
  /**
   * Full blocks are shared by content: see {@link DcpAttention.createSequenceFrom}. Default false.
   */
  readonly prefixCache?: boolean;
  /**
   * `auto` times every combine in the first steps of each size and keeps the fastest: see `metrics.combineChoices`.
   * Default "auto", which begins with {@link DEFAULT_COMBINE}.
   */
  readonly combine?: Combine | "auto";
  /**
   * What the bits of results may depend on besides queries, keys and values; the same on every rank. `rank-order`: on
   * how the world shares the tokens. `world-invariant`: on nothing, so that any number of ranks (at most 32 that share
   * tokens), interleave, block size, chunk, batch and combine give the same outputs and LSEs, on each backend for
   * itself. Ranks then exchange the largest scores first and exact sums of integers after, 8 bytes for each element:
   * the combine is `a2a`, `ag-rs` or `auto`, the partialDtype f32. Default "rank-order".
   */
  readonly deterministic?: Determinism;
  /**
   * "on": the query tokens of a step are cut in two halves, between sequences where there are several; while one half
   * is exchanged and combined the other attends. A step of one query token stays whole. "auto" times both ways in the
   * first steps of each size and context, from 16 query tokens on, that can be cut between sequences, and keeps the
   * faster, see `metrics.overlapChoices`; where the bits of a row depend on its batch (webgpu without
   * `batchInvariant`), it is "off". Ranks that share a device attend together: there it is always "off". Default
   * "auto".
   */
  readonly overlap?: "auto" | "on" | "off";
  /** Factor on q.k. Default 1 / sqrt(headDim). */
  readonly scale?: number;
  /** Scores become softcap * tanh(score / softcap). Default: none. */
  readonly softcap?: number;
  /** A query at position p sees positions (p - window, p]: one for all layers, or one for each (null: all of them). */
  readonly window?: number | readonly (number | null)[];
  /**
   * Attention sinks [layers, queryHeads], f32: logits that join the denominator, once for the whole context. The same
   * on every rank, read at every step. Default: none.
   */
  readonly sinks?: Tensor;
  /** Base of the LSE that {@link DcpAttention.attend} returns. Default "e". */
  readonly lseBase?: LseBase;
  /**
   * Called in every {@link DcpAttention.attend} with the LSE of this rank's partial attention before it is combined
   * [Tq, queryHeads], f32, natural, -inf where this rank holds nothing that the query sees. With the `lse` of attend,
   * exp(partialLse - lse) is this rank's share of the result. To be read within the call. Default: nobody is told.
   */
  readonly onPartialLse?: (layer: number, partialLse: Tensor) => void;
  /** Most query tokens of one step on this rank. Default 256. */
  readonly maxStepQueries?: number;
  /**
   * Tokens of the context, over all shards, that {@link DcpAttention.prefill} gathers at a time, rounded up to whole
   * blocks and to whole tiles of keys of every shard. Larger chunks take more memory and fewer exchanges. On backends
   * whose sums go on from call to call (wasm, reference, webgpu with `batchInvariant`) results have the bits of
   * decoding, whatever the chunks; on others (webgpu without) chunks are rounded alike, and show in the last digits.
   * Default: no prefill.
   */
  readonly prefillChunk?: number;
  /**
   * Ranks that split the new tokens of a prefill step (prefill context parallelism). Default: this rank brings all.
   */
  readonly pcpGroup?: ProcessGroup;
  /** Deadline of every collective. Default: the group's. */
  readonly deadlineMs?: number;
}
