import type { ProcessGroup } from "@lockstep/dist-groups";
import { checkKvShard, type KernelBackend, type KvShard } from "@lockstep/kernels";
import { ArgumentError, type DType, type SharedHeap } from "@lockstep/tensor";
import type { Combine } from "./reduce-output.ts";

/** Options of {@link DcpAttention.open}. */
export interface DcpAttentionOptions {
  /** Computes partial attention, stores the KV cache, and corrects outputs for `ag-rs`. */
  readonly backend: KernelBackend;
  /** Merges partial outputs for `a2a` straight from the peers' memory. Default: `backend`; give a wasm one beside webgpu. */
  readonly mergeBackend?: KernelBackend;
  /** This rank's heap. */
  readonly heap: SharedHeap;
  /** Ranks over which the tokens of these KV heads are sharded. */
  readonly dcpGroup: ProcessGroup;
  /** Ranks whose query heads are gathered. Default: `dcpGroup`, as in the classic layout. */
  readonly queryGroup?: ProcessGroup;
  readonly layers: number;
  /** Query heads of the whole query group; each rank brings its chunk of them. */
  readonly queryHeads: number;
  /** KV heads stored on this rank. */
  readonly kvHeads: number;
  /** Size of a query or key row (Dk). */
  readonly headDim: number;
  /** Size of a value row (Dv). Default: headDim. */
  readonly valueDim?: number;
  /** Which query heads share a KV head, when the query group holds only some of the stored KV heads' query heads. */
  readonly headGroup?: { readonly size: number; readonly offset: number };
  /** Dtype of the stored keys and values: f32, f16 or bf16. */
  readonly kvDtype: DType;
  /** Dtype in which queries come and are gathered: f32, f16 or bf16. Default "f32". */
  readonly queryDtype?: DType;
  /** Tokens per block. */
  readonly blockSize: number;
  /** Consecutive tokens a rank stores before the next rank's turn; divides blockSize. Default 1. */
  readonly interleave?: number;
  /** Blocks on this rank, shared by all layers' tables: blockSize * dcpGroup.size tokens each. */
  readonly numBlocks: number;
  /** `auto` chooses a2a, which needs one collective less. Default "auto". */
  readonly combine?: Combine | "auto";
  /** Factor on q.k. Default 1 / sqrt(headDim). */
  readonly scale?: number;
  readonly softcap?: number;
  readonly window?: number;
  /** Most query tokens of one step. Default 256. */
  readonly maxStepQueries?: number;
  /** Deadline of every collective. Default: the group's. */
  readonly deadlineMs?: number;
}

/** Throws ArgumentError unless the options agree; returns the shard of the context that this rank holds. */
export function checkOptions(options: DcpAttentionOptions): KvShard {
  const name = "DcpAttention.open";
  const { dcpGroup, blockSize } = options;
  for (const field of ["layers", "queryHeads", "kvHeads", "headDim", "blockSize", "numBlocks"] as const) {
    if (!Number.isInteger(options[field]) || options[field] < 1) {
      throw new ArgumentError(name, field, "a positive integer", String(options[field]));
    }
  }
  checkVariant(name, options);
  if (options.mergeBackend?.name === "webgpu") {
    throw new ArgumentError(name, "mergeBackend", "a wasm or reference backend", "webgpu");
  }
  const shard = { index: dcpGroup.rank, count: dcpGroup.size, interleave: options.interleave ?? 1 };
  checkKvShard(name, shard, blockSize);
  return shard;
}

/** Throws unless dtypes, head mapping and the attention variant are ones that the kernels can compute. */
function checkVariant(name: string, options: DcpAttentionOptions): void {
  const floats: readonly DType[] = ["f32", "f16", "bf16"];
  for (const field of ["kvDtype", "queryDtype"] as const) {
    const dtype = options[field] ?? "f32";
    if (!floats.includes(dtype)) throw new ArgumentError(name, field, floats.join(", "), dtype);
  }
  const { queryHeads, kvHeads, headGroup, window, softcap, scale } = options;
  if (headGroup === undefined && queryHeads % kvHeads !== 0) {
    throw new ArgumentError(
      name,
      "queryHeads",
      `a multiple of kvHeads = ${kvHeads} (or give headGroup)`,
      `${queryHeads}`,
    );
  }
  if (window !== undefined && (!Number.isInteger(window) || window < 1)) {
    throw new ArgumentError(name, "window", "a positive integer", String(window));
  }
  if (softcap !== undefined && !(softcap > 0 && Number.isFinite(softcap))) {
    throw new ArgumentError(name, "softcap", "a positive finite number", String(softcap));
  }
  if (scale !== undefined && !Number.isFinite(scale)) {
    throw new ArgumentError(name, "scale", "a finite number", String(scale));
  }
}
