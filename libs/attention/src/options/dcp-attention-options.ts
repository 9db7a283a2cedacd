import type { ProcessGroup } from "@lockstep/dist-groups";
import {
  checkKvShard,
  checkScoreFactor,
  KV_DTYPES,
  type KernelBackend,
  type KvShard,
  type LseBase,
} from "@lockstep/kernels";
import { ArgumentError, describe, type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import { checkVariant } from "./attention-variant.ts";
import { type Combine, COMBINES } from "../combine/combine.ts";
import { expectBackend, expectGroup, expectRecord } from "../arguments/expect-argument.ts";
import { checkKvScales, type KvScaling, layerScales } from "../kv/kv-scales.ts";

/** Options of {@link DcpAttention.open}. */
export interface DcpAttentionOptions {
  /** Computes partial attention and stores the KV cache. */
  readonly backend: KernelBackend;
  /** Combines partial outputs in the shared heap. Default: `backend`; give a wasm one beside webgpu. */
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
   * Multi-head latent attention with absorbed queries: one latent KV head, whose first valueDim columns are the values; no
   * second copy is stored, and steps bring no values. Default false.
   */
  readonly mla?: boolean;
  /** Which query heads share a KV head, when the query group holds only some of the stored KV heads' query heads. */
  readonly headGroup?: { readonly size: number; readonly offset: number };
  /** Dtype of the stored keys and values: f32, f16, bf16, or quantised f8e4m3 or i8. */
  readonly kvDtype: DType;
  /**
   * Scales of a quantised cache (f8e4m3, i8): one for every token and KV head, found when it is stored and kept beside it in f32, or
   * given, for all layers or for each. Left out for other caches. Default "per-token".
   */
  readonly kvScales?: KvScaling;
  /** Dtype in which queries come: f32, f16 or bf16. Default "f32". */
  readonly queryDtype?: DType;
  /** "f8e4m3": queries are rounded to 8 bits before they are gathered. Default: the queryDtype. */
  readonly gatherDtype?: DType;
  /** What queries are divided by before they are rounded to f8e4m3, so that they lie within +-448. Default 1. */
  readonly queryScale?: number;
  /**
   * Dtype in which ranks exchange their partial outputs; LSEs stay f32. f16 and bf16 halve what leaves a GPU and what peers read,
   * and round each partial output once; they go with the combine a2a. Default "f32".
   */
  readonly partialDtype?: DType;
  /** Every rank brings the queries of all heads of the query group, and nothing is gathered. Default false. */
  readonly queryReplicated?: boolean;
  /** Tokens per block. */
  readonly blockSize: number;
  /** Consecutive tokens a rank stores before the next rank's turn; divides blockSize. Default 1. */
  readonly interleave?: number;
  /** Blocks on this rank, shared by all layers' tables: blockSize * dcpGroup.size tokens each. */
  readonly numBlocks: number;
  /** `auto` times every way in the first steps of each size and keeps the fastest: see `metrics.combineChoices`. Default "auto". */
  readonly combine?: Combine | "auto";
  /** Factor on q.k. Default 1 / sqrt(headDim). */
  readonly scale?: number;
  /** Scores become softcap * tanh(score / softcap). Default: none. */
  readonly softcap?: number;
  /** A query at position p sees positions (p - window, p]: one for all layers, or one for each (null: all positions). */
  readonly window?: number | readonly (number | null)[];
  /**
   * Attention sinks [layers, queryHeads], f32: logits that join the denominator, once for the whole context. The same on every
   * rank, read at every step. Default: none.
   */
  readonly sinks?: Tensor;
  /** Base of the LSE that {@link DcpAttention.attend} returns. Default "e". */
  readonly lseBase?: LseBase;
  /**
   * Told, in every {@link DcpAttention.attend}, the LSE of this rank's partial attention before it is combined: [Tq, queryHeads] of
   * the query group, f32, natural, -inf where this rank holds nothing that the query sees. exp(partial - lse), with the LSE that
   * attend returns, is this rank's share of the result. To be read within the call. Default: nobody is told.
   */
  readonly onPartialLse?: (layer: number, partialLse: Tensor) => void;
  /** Most query tokens of one step on this rank. Default 256. */
  readonly maxStepQueries?: number;
  /**
   * Opens {@link DcpAttention.beginPrefill}: how many tokens of the context, over all shards, are gathered into a workspace at a
   * time (rounded up to whole blocks). Larger chunks take more memory and fewer exchanges. Default: no prefill.
   */
  readonly prefillChunk?: number;
  /** Ranks that split the new tokens of a prefill step (prefill context parallelism). Default: this rank brings all of them. */
  readonly pcpGroup?: ProcessGroup;
  /** Deadline of every collective. Default: the group's. */
  readonly deadlineMs?: number;
}

const NAME = "DcpAttention.open";

/** What kernels and plans can count, far beyond any model. What fits is for the heap or the device to say. */
const MOST = {
  layers: 2 ** 16,
  queryHeads: 2 ** 20,
  kvHeads: 2 ** 20,
  headDim: 2 ** 20,
  valueDim: 2 ** 20,
  blockSize: 2 ** 20,
  interleave: 2 ** 20,
  numBlocks: 2 ** 31 - 1,
  maxStepQueries: 2 ** 31 - 1,
  prefillChunk: 2 ** 31 - 1,
} as const;

function checkCount(field: string, count: number, most: number): void {
  if (Number.isInteger(count) && count >= 1 && count <= most) return;
  throw new ArgumentError(NAME, field, `an integer from 1 to ${most}`, describe(count));
}

/** Throws ArgumentError unless the options agree; returns the shard of the context that this rank holds. */
export function checkOptions(options: DcpAttentionOptions): KvShard {
  checkKinds(options);
  const { dcpGroup, blockSize } = options;
  for (const field of ["layers", "queryHeads", "kvHeads", "headDim", "blockSize", "numBlocks"] as const) {
    checkCount(field, options[field], MOST[field]);
  }
  for (const field of ["valueDim", "interleave", "maxStepQueries", "prefillChunk"] as const) {
    if (options[field] !== undefined) checkCount(field, options[field], MOST[field]);
  }
  const { prefillChunk, deadlineMs } = options;
  if (deadlineMs !== undefined && !(typeof deadlineMs === "number" && deadlineMs > 0 && deadlineMs <= 2 ** 31 - 1)) {
    throw new ArgumentError(NAME, "deadlineMs", "milliseconds, more than 0 and less than 2^31", describe(deadlineMs));
  }
  if (options.pcpGroup !== undefined && prefillChunk === undefined) {
    throw new ArgumentError(NAME, "prefillChunk", "given with a pcpGroup, which only prefill uses", "left out");
  }
  checkDtypes(options);
  checkHeads(options);
  checkVariant(NAME, options);
  checkFactors(options);
  if (options.lseBase !== undefined && options.lseBase !== "e" && options.lseBase !== "2") {
    throw new ArgumentError(NAME, "lseBase", '"e" or "2"', describe(options.lseBase));
  }
  const { combine = "auto" } = options;
  if (combine !== "auto" && !COMBINES.includes(combine)) {
    throw new ArgumentError(NAME, "combine", '"ag-rs", "a2a", "one-shot" or "auto"', describe(combine));
  }
  if (options.mergeBackend?.isSynchronous === false) {
    throw new ArgumentError(NAME, "mergeBackend", "a wasm or reference backend", options.mergeBackend.name);
  }
  const shard = { index: dcpGroup.rank, count: dcpGroup.size, interleave: options.interleave ?? 1 };
  checkKvShard(NAME, shard, blockSize);
  return shard;
}

/** Throws ArgumentError unless backends, heap and groups are what they are called. */
function checkKinds(options: DcpAttentionOptions): void {
  expectRecord(NAME, "options", options);
  const { backend, mergeBackend, heap, dcpGroup, queryGroup, pcpGroup, onPartialLse, sinks } = options;
  expectBackend(NAME, "backend", backend);
  if (mergeBackend !== undefined) expectBackend(NAME, "mergeBackend", mergeBackend);
  if (!(heap instanceof SharedHeap)) throw new ArgumentError(NAME, "heap", "a SharedHeap", describe(heap));
  expectGroup(NAME, "dcpGroup", dcpGroup);
  if (queryGroup !== undefined) expectGroup(NAME, "queryGroup", queryGroup);
  if (pcpGroup !== undefined) expectGroup(NAME, "pcpGroup", pcpGroup);
  if (onPartialLse !== undefined && typeof onPartialLse !== "function") {
    throw new ArgumentError(NAME, "onPartialLse", "a function", describe(onPartialLse));
  }
  if (sinks === undefined) return;
  if (!(sinks instanceof Tensor)) throw new ArgumentError(NAME, "sinks", "a tensor", describe(sinks));
  sinks.assertUsable(NAME, "sinks");
}

/** Throws ArgumentError unless scores' factors stay normal numbers of f32, multiplied together as kernels do. */
function checkFactors(options: DcpAttentionOptions): void {
  const { headDim, scale = 1 / Math.sqrt(headDim), queryScale = 1, layers, mla = false, kvDtype } = options;
  const factor = scale * queryScale;
  checkScoreFactor(NAME, queryScale === 1 ? "scale" : "scale times queryScale", factor);
  // Kernels take e4m3 numbers as multiples of 1/256.
  const worth = kvDtype === "f8e4m3" ? 256 : 1;
  for (const { keyScale = [] } of layerScales(options.kvScales, layers, mla)) {
    for (let at = 0; at < keyScale.length; at++) {
      checkScoreFactor(NAME, "scale times queryScale times kvScales.key", factor * (keyScale[at] ?? 1) * worth);
    }
  }
}

function checkDtypes(options: DcpAttentionOptions): void {
  const floats: readonly DType[] = ["f32", "f16", "bf16"];
  const { kvDtype, queryDtype = "f32", gatherDtype = queryDtype, queryScale, queryReplicated = false } = options;
  const { partialDtype = "f32", combine = "auto" } = options;
  if (!floats.includes(partialDtype)) throw new ArgumentError(NAME, "partialDtype", floats.join(", "), partialDtype);
  if (partialDtype !== "f32" && combine !== "auto" && combine !== "a2a") {
    throw new ArgumentError(NAME, "combine", `"a2a" or "auto" with a partialDtype of ${partialDtype}`, combine);
  }
  if (!KV_DTYPES.includes(kvDtype)) throw new ArgumentError(NAME, "kvDtype", KV_DTYPES.join(", "), kvDtype);
  if (!floats.includes(queryDtype)) throw new ArgumentError(NAME, "queryDtype", floats.join(", "), queryDtype);
  if (gatherDtype !== queryDtype && gatherDtype !== "f8e4m3") {
    throw new ArgumentError(NAME, "gatherDtype", `the queryDtype ${queryDtype}, or f8e4m3`, gatherDtype);
  }
  if (gatherDtype === "f8e4m3" && queryReplicated) {
    throw new ArgumentError(NAME, "gatherDtype", "left out with queryReplicated, which gathers nothing", gatherDtype);
  }
  if (queryScale !== undefined && gatherDtype !== "f8e4m3") {
    throw new ArgumentError(
      NAME,
      "queryScale",
      `left out unless gatherDtype is f8e4m3 (it is ${gatherDtype})`,
      `${queryScale}`,
    );
  }
  if (queryScale !== undefined && !(queryScale >= 2 ** -100 && queryScale <= 2 ** 100)) {
    throw new ArgumentError(NAME, "queryScale", "from 2^-100 to 2^100", describe(queryScale));
  }
  checkKvScales(NAME, options.kvScales, options);
}

function checkHeads(options: DcpAttentionOptions): void {
  const { queryHeads, kvHeads, headGroup, headDim, valueDim = headDim, mla = false } = options;
  if (mla && kvHeads !== 1) {
    throw new ArgumentError(NAME, "kvHeads", "1 with mla, whose query heads share one latent head", describe(kvHeads));
  }
  if (mla && valueDim > headDim) {
    const expected = `at most headDim = ${headDim} with mla, whose values are columns of the keys`;
    throw new ArgumentError(NAME, "valueDim", expected, describe(valueDim));
  }
  if (headGroup !== undefined) {
    expectRecord(NAME, "headGroup", headGroup);
    const last = Math.floor((queryHeads - 1 + headGroup.offset) / headGroup.size);
    const isWhole =
      Number.isInteger(headGroup.size) &&
      headGroup.size > 0 &&
      Number.isInteger(headGroup.offset) &&
      headGroup.offset >= 0;
    if (!isWhole || last >= kvHeads) {
      const expected = `one that maps ${queryHeads} query heads to the ${kvHeads} stored KV heads`;
      throw new ArgumentError(NAME, "headGroup", expected, `size ${headGroup.size}, offset ${headGroup.offset}`);
    }
  }
  if (headGroup === undefined && queryHeads % kvHeads !== 0) {
    throw new ArgumentError(
      NAME,
      "queryHeads",
      `a multiple of kvHeads = ${kvHeads} (or give headGroup)`,
      `${queryHeads}`,
    );
  }
}
