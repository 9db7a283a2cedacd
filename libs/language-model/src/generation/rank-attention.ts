// The attention of a model on one rank.
import type { DcpAttention, DcpAttentionOptions } from "@lockstep/attention";
import type { KernelBackend } from "@lockstep/kernels";
import { type SharedHeap, Tensor } from "@lockstep/tensor";
import type { ModelConfig } from "../model/config.ts";
import { lengthOf, type ParallelSizes, type RankShare } from "../model/tensor-parallel.ts";

/** What of a rank's attention its share of a model decides. */
type ModelAttention = Pick<
  DcpAttentionOptions,
  "layers" | "queryHeads" | "kvHeads" | "headDim" | "window" | "headGroup" | "deterministic"
>;

/**
 * Layers, heads, windows and determinism of the attention that a rank opens for its share of a model: the query heads of its DCP
 * group, over the KV heads that it stores.
 */
export function modelAttention(
  config: ModelConfig,
  share: RankShare,
  { deterministic }: Pick<ParallelSizes, "deterministic">,
): ModelAttention {
  const headsPerKv = config.queryHeads / config.kvHeads;
  return {
    layers: config.layers,
    queryHeads: lengthOf(share.groupQueryHeads),
    kvHeads: lengthOf(share.kvHeads),
    headDim: config.headDim,
    ...(deterministic === undefined ? {} : { deterministic }),
    ...(config.windows.some((window) => window !== null) ? { window: config.windows } : {}),
    headGroup: { size: headsPerKv, offset: share.groupQueryHeads.start - share.kvHeads.start * headsPerKv },
  };
}

/**
 * Overwrites a rank's keys and values of all layers with zeros.
 * @param heap where a block of zeros lies meanwhile
 */
export async function eraseCaches(
  attention: DcpAttention,
  backend: KernelBackend,
  { heap, layers }: { readonly heap: SharedHeap; readonly layers: number },
): Promise<void> {
  for (let layer = 0; layer < layers; layer++) {
    for (const cache of [attention.keyCache(layer), attention.valueCache(layer)]) {
      const zeros = Tensor.zeros(heap, cache.dtype, [1, ...cache.shape.slice(1)]);
      try {
        for (let block = 0; block < (cache.shape[0] ?? 0); block++) {
          await backend.upload(zeros, cache.slice(0, block, block + 1));
        }
      } finally {
        zeros.free();
      }
    }
  }
}
