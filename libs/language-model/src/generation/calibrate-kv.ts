// Finds the static scales of a quantised KV cache on the ranks of a world.
import { DcpAttention, type DcpAttentionOptions, type KvScales } from "@lockstep/attention";
import type { ProcessGroup } from "@lockstep/dist-groups";
import { type SharedHeap, Tensor } from "@lockstep/tensor";
import type { ModelConfig } from "../model/config.ts";
import { decodeStep } from "../model/step-attention.ts";
import { lengthOf, type RankShare } from "../model/tensor-parallel.ts";
import type { Transformer } from "../model/transformer.ts";
import { KvCalibration, nonFiniteKv, type QuantisedKv } from "./kv-calibration.ts";
import { calibrationBlocks } from "./kv-blocks.ts";

/** What a rank finds scales with. */
export interface CalibrationParts {
  /** For messages. */
  readonly modelName: string;
  /** Tokens whose keys and values decide the scales. */
  readonly tokens: readonly number[];
  readonly config: ModelConfig;
  readonly share: RankShare;
  /** Ranks that share a KV cache. */
  readonly dcp: number;
  /** The attention that the scales are for, besides its cache. */
  readonly attention: Omit<DcpAttentionOptions, "kvDtype" | "kvScales" | "numBlocks">;
  readonly transformer: Transformer;
  readonly world: ProcessGroup;
  /** The memory that the ranks share. */
  readonly heap: SharedHeap;
  /** Most tokens of one pass. */
  readonly maxStepTokens: number;
}

/**
 * The scales of each layer for a quantised cache, from the keys and values of a sample that an unquantised one holds
 * for the time being. All ranks of the world call it together.
 * @throws ModelError on every rank when a key or value of any is NaN or infinite
 */
export async function calibrateKv(dtype: QuantisedKv, parts: CalibrationParts): Promise<KvScales[]> {
  const { modelName, tokens, config, share, dcp, transformer, world, heap, maxStepTokens } = parts;
  const calibration = new KvCalibration(config.layers, lengthOf(share.kvHeads));
  const numBlocks = calibrationBlocks(tokens.length, parts.attention.blockSize, dcp);
  const attention = DcpAttention.open({ ...parts.attention, kvDtype: "f32", numBlocks });
  try {
    const sequence = attention.createSequence();
    const step = calibration.observe(decodeStep(attention));
    for (let done = 0; done < tokens.length; done += maxStepTokens) {
      await transformer.forward(step, [{ sequence, ids: tokens.slice(done, done + maxStepTokens), logits: 0 }]);
    }
  } finally {
    attention.close();
  }
  const own = Tensor.from(heap, "f32", [1], [calibration.firstNonFinite]);
  const all = Tensor.empty(heap, "f32", [world.size]);
  world.allGather(own, all, { dim: 0 });
  const first = Math.min(...all.f32);
  own.free();
  all.free();
  // What is damaged on one rank reaches the others in later layers: all name the first.
  if (first !== Number.POSITIVE_INFINITY) throw nonFiniteKv(modelName, first);
  return calibration.scales(dtype);
}
