// What each rank of the demo's world runs.
import { DcpAttention, type DcpAttentionMetrics } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { type BackendName, type KernelBackend, openBackend } from "@lockstep/kernels";
import { Tensor, type TensorDescriptor } from "@lockstep/tensor";
import { Checkpoint } from "./checkpoint.ts";
import type { ModelConfig } from "./config.ts";
import { GreedySampler } from "./greedy.ts";
import { Layers } from "./layers/layers.ts";
import { lengthOf, type ParallelSizes, rankShare } from "./tensor-parallel.ts";
import { TokenStream } from "./token-stream.ts";
import { decodeStep } from "./step-attention.ts";
import { Transformer } from "./transformer.ts";
import { loadWeights } from "./weights.ts";

/** What the host tells every rank. Plain data. */
export interface RankOptions {
  readonly modelFolder: string;
  readonly config: ModelConfig;
  readonly sizes: ParallelSizes;
  readonly backend: BackendName | "auto";
  readonly softwareVulkan: boolean;
  readonly combine: "ag-rs" | "a2a" | "auto";
  readonly kvDtype: "f32" | "f16" | "bf16";
  readonly blockSize: number;
  readonly interleave: number;
  /** KV blocks of one rank. */
  readonly numBlocks: number;
  readonly maxStepTokens: number;
}

/** What one rank did and holds since the world was opened. */
export interface RankMetrics {
  readonly rank: number;
  readonly backend: BackendName;
  readonly device: string;
  readonly attention: DcpAttentionMetrics;
  /** Bytes received in the tensor-parallel collectives (all-reduce of layer outputs, choice of the token). */
  readonly tensorParallelBytes: number;
}

/** Loads this rank's share of the model and opens its attention; returns what the host may call. */
export async function setup(context: RankContext, options: RankOptions) {
  const { config, sizes, kvDtype, blockSize, interleave, numBlocks, maxStepTokens, combine } = options;
  const { heap, world } = context;
  const share = rankShare(sizes, context.rank, config);
  const layers = Layers.open(heap);
  using checkpoint = Checkpoint.open(options.modelFolder, config);
  const weights = loadWeights(checkpoint, config, share, layers, heap);

  const backend = await openRankBackend(context, options);
  const headsPerKv = config.queryHeads / config.kvHeads;
  const attention = DcpAttention.open({
    backend: backend.attend,
    mergeBackend: backend.merge,
    heap,
    dcpGroup: context.group("dcp"),
    layers: config.layers,
    queryHeads: lengthOf(share.groupQueryHeads),
    kvHeads: lengthOf(share.kvHeads),
    headDim: config.headDim,
    ...(config.windows.some((window) => window !== null) ? { window: config.windows } : {}),
    headGroup: { size: headsPerKv, offset: share.groupQueryHeads.start - share.kvHeads.start * headsPerKv },
    kvDtype,
    blockSize,
    interleave,
    numBlocks,
    combine,
    maxStepQueries: maxStepTokens,
  });
  context.onClose(() => attention.close());
  const maxLogitRows = 1;
  const transformer = new Transformer({ config, share, weights, layers, world, heap, maxStepTokens, maxLogitRows });
  const sampler = new GreedySampler(layers, world, heap, share.vocabulary.start, maxLogitRows);
  let sequence = attention.createSequence();
  let logits: Tensor | undefined;
  const step = async (ids: readonly number[]): Promise<number> => {
    logits = await transformer.forward(decodeStep(attention), [{ sequence, ids, logits: 1 }]);
    return sampler.choose(logits)[0] ?? -1;
  };

  return {
    /** Forgets the current text. */
    restart(): void {
      attention.freeSequence(sequence);
      sequence = attention.createSequence();
    },

    /** Appends tokens (at most maxStepTokens) to the text; returns the token that follows, the same on every rank. */
    step,

    /**
     * Appends `token`, then every token that follows, until `count` tokens were made or one of `endTokens` was. Rank 0
     * writes them to `stream` as they come.
     */
    async decode(token: number, count: number, endTokens: readonly number[], stream: TensorDescriptor): Promise<void> {
      const output = context.rank === 0 ? TokenStream.open(stream, heap) : undefined;
      let next = token;
      for (let made = 0; made < count; made++) {
        next = await step([next]);
        output?.push(next);
        if (endTokens.includes(next)) return;
      }
    },

    /** Logits of the last step for this rank's rows of the vocabulary. */
    logits(): Float32Array {
      return Float32Array.from(logits?.f32 ?? []);
    },

    metrics(): RankMetrics {
      const { name, device } = backend.attend;
      const tensorParallelBytes = world.counters.bytesReceived;
      return { rank: context.rank, backend: name, device, attention: attention.metrics, tensorParallelBytes };
    },

    /** Overwrites everything this rank has cached with zeros: shows what the other ranks' shards are worth alone. */
    async eraseCache(): Promise<void> {
      for (let layer = 0; layer < config.layers; layer++) {
        for (const cache of [attention.keyCache(layer), attention.valueCache(layer)]) {
          const zeros = Tensor.zeros(heap, cache.dtype, cache.shape);
          await backend.attend.upload(zeros, cache);
          zeros.free();
        }
      }
    },
  };
}

/** The backend that attends, and one that merges partial outputs where they lie: in the shared heap. */
async function openRankBackend(
  context: RankContext,
  options: RankOptions,
): Promise<{ attend: KernelBackend; merge: KernelBackend }> {
  const open = async (name: BackendName | "auto"): Promise<KernelBackend> => {
    const gpu = { index: context.rank, ...(options.softwareVulkan ? { adapter: "any" as const } : {}) };
    const backend = await openBackend(name, { heap: context.heap, ...gpu });
    context.onClose(() => backend.close());
    return backend;
  };
  const attend = await open(options.backend);
  return { attend, merge: attend.name === "webgpu" ? await open("wasm") : attend };
}
