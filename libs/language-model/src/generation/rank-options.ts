import type { BackendName } from "@lockstep/kernels";
import type { TensorDescriptor } from "@lockstep/tensor";
import type { WeightKind } from "../layers/weight.ts";
import type { ModelConfig } from "../model/config.ts";
import type { ModelSource } from "../model/model-files.ts";
import type { ParallelSizes } from "../model/tensor-parallel.ts";
import type { KvDtype } from "./kv-calibration.ts";
import type { MemoryLayout } from "./memory-plan.ts";

/** What the host tells every rank of a generator. Plain data. */
export interface RankOptions {
  readonly model: ModelSource;
  readonly config: ModelConfig;
  readonly sizes: ParallelSizes;
  readonly backend: BackendName | "auto";
  readonly softwareVulkan: boolean;
  /** GPUs that the ranks are spread over. */
  readonly gpus: number;
  readonly sharedGpu: boolean;
  /** Whether a GPU gives a text the bits that it has alone, whatever else is in its steps. */
  readonly batchInvariant: boolean;
  /** Whether "auto" may be wasm where no GPU can be used. */
  readonly canFallBack: boolean;
  readonly combine: "ag-rs" | "a2a" | "one-shot" | "auto";
  readonly weights: WeightKind;
  readonly kvDtype: KvDtype;
  /** Tokens whose keys and values decide the static scales of a quantised KV cache; empty for others. */
  readonly calibration: readonly number[];
  readonly blockSize: number;
  readonly interleave: number;
  /** Shares of the KV cache of the ranks of a DCP group; undefined: equal ones. */
  readonly kvWeights: readonly number[] | undefined;
  /** KV blocks, of which each rank stores its share. */
  readonly numBlocks: number;
  /** Whether texts that begin alike share blocks. */
  readonly prefixCache: boolean;
  readonly maxStepTokens: number;
  readonly maxLogitRows: number;
  readonly prefillChunk: number | undefined;
  readonly memory: MemoryLayout;
  /** Where ranks of the host's process tell how much they have read; left out where nobody looks. */
  readonly loaded?: TensorDescriptor;
}
