import { installedGpus } from "@lockstep/kernels";
import { UnfitOptions } from "../errors.ts";
import type { Model } from "../model/model.ts";
import { checkParallelSizes, chooseKvLayout, leastDcp, type ParallelSizes } from "../model/tensor-parallel.ts";
import { calibrationOf, checkModel, checkValues } from "./check-options.ts";
import type { GeneratorOptions, ServingNeeds, SizedOptions } from "./generator-options.ts";
import { machineBytes } from "./machine-memory.ts";
import { blocksPerRank, blockTokens, kvBlockBytes } from "./kv-blocks.ts";
import { checkNamedRanks, kvWeightsOf, mostBlocks, namedRanks } from "./kv-shares.ts";
import { adviceFor, largestContext } from "./memory-advice.ts";
import { type CacheShape, cacheMemoryBytes, planRanks, type RankMemoryPlan } from "./memory-plan.ts";
import type { RankOptions } from "./rank-options.ts";

/** Options checked against a model, with all that was left out filled in. */
export interface ResolvedOptions {
  /** What every rank is told. */
  readonly rank: RankOptions;
  /** Most tokens of one text. */
  readonly capacity: number;
  readonly texts: number;
  readonly maxDraft: number;
  /** Each rank's range of the memory that all ranks share. */
  readonly heapBytesPerRank: number;
  readonly deadlineMs: number;
  /** Bytes of weights that all ranks hold. */
  readonly weightBytes: number;
  /** Bytes that all ranks hold, and what the host needs. */
  readonly totalBytes: number;
  readonly onLoad: GeneratorOptions["onLoad"];
  readonly worker: GeneratorOptions["worker"];
}

/** Options that fit a model, and what its ranks would hold: more than there is, perhaps. */
export interface PlannedOptions {
  readonly rank: Omit<RankOptions, "memory">;
  readonly texts: number;
  readonly maxDraft: number;
  readonly deadlineMs: number;
  readonly capacity: number;
  /** Whether the KV cache lies on GPUs. */
  readonly isOnDevice: boolean;
  /** Tokens that the KV cache can hold over all texts; undefined where nobody says how much room there is. */
  readonly mostKvTokens: number | undefined;
  readonly plan: RankMemoryPlan;
}

/**
 * Checks options and fills in what was left out.
 * @param gpusFound as of {@link planOptions}
 * @throws ArgumentError for a value that no model takes; {@link UnfitOptions} for what does not fit the model, or
 * memory
 */
export function resolveOptions(
  model: Model,
  options: SizedOptions & ServingNeeds,
  gpusFound?: number,
): ResolvedOptions {
  const { rank, capacity, texts, maxDraft, deadlineMs, plan } = planOptions(model, options, gpusFound);
  const { problem, layout } = plan;
  if (problem !== undefined) throw new UnfitOptions(`${problem}: ${adviceOf(model, options)}.`);
  return {
    rank: { ...rank, memory: layout },
    capacity,
    texts,
    maxDraft,
    heapBytesPerRank: layout.sharedBytes,
    deadlineMs,
    weightBytes: plan.ranks.reduce((sum, { weights }) => sum + weights, 0),
    totalBytes: plan.totalBytes,
    onLoad: options.onLoad,
    worker: options.worker,
  };
}

/** What of other options would make a model fit. */
export function adviceOf(model: Model, options: SizedOptions & ServingNeeds): string {
  return adviceFor(model.config, options, (changed) => fittingContext(model, changed));
}

/** The tokens of a text that these options make room for; undefined when they do not fit the model, or memory. */
export function fittingContext(model: Model, options: SizedOptions & ServingNeeds): number | undefined {
  try {
    const { plan, capacity } = planOptions(model, options);
    return plan.problem === undefined ? capacity : undefined;
  } catch (error) {
    if (error instanceof UnfitOptions) return undefined;
    throw error;
  }
}

/**
 * Checks options and plans the memory of each rank.
 * @param gpusFound GPUs of this machine, which a backend may find that it cannot use
 * @throws ArgumentError for a value that no model takes; {@link UnfitOptions} for what does not fit the model
 */
export function planOptions(
  model: Model,
  options: SizedOptions & ServingNeeds,
  gpusFound: number = installedGpus().length,
): PlannedOptions {
  checkModel(model);
  checkValues(options);
  const { config } = model;
  const {
    world,
    kvHeads = "auto",
    dcp = namedRanks(options) ?? leastDcp(world, config.kvHeads, kvHeads),
    kvBytes,
    blockSize = 16,
    kvDtype = "f32",
    prefillChunk,
    texts = 1,
    kvTokens,
    maxDraft = 0,
    weights = "stored",
  } = options;
  const maxLogitRows = texts * (maxDraft + 1);
  const maxStepTokens = Math.max(options.maxStepTokens ?? 256, maxLogitRows);
  const kvLayout = kvHeads === "auto" ? chooseKvLayout(world, dcp, config.kvHeads) : kvHeads;
  const isInvariant = options.deterministic === "world-invariant";
  const sizes: ParallelSizes = { world, dcp, kvLayout, ...(isInvariant ? { deterministic: "world-invariant" } : {}) };
  checkNamedRanks(options, world, dcp);
  checkParallelSizes(sizes, config.queryHeads, config.kvHeads);
  if (options.capacity !== undefined && options.capacity > config.maxPositions) {
    throw new UnfitOptions(
      `the text would grow to ${options.capacity} tokens, but the model was made for ${config.maxPositions}: ` +
        "take a shorter `prompt` or fewer `maxTokens`.",
    );
  }
  const calibration = calibrationOf(options, config.vocabularySize);
  const gpus = options.gpus ?? Math.max(1, gpusFound);
  const { backend = "auto", softwareVulkan = false, sharedGpu = false } = options;
  const isOnDevice = backend === "webgpu" || (backend === "auto" && gpusFound > 0);
  // Without a GPU prompts are computed by gathering queries.
  const mayGather = sharedGpu || backend === "webgpu" || backend === "auto";
  const calibrationTokens = calibration.length;
  const blockBytes = kvBlockBytes(config, { sizes, kvDtype, calibrationTokens, blockSize });
  const kvWeights = kvWeightsOf(options, blockBytes);
  const withoutCapacity: Omit<CacheShape, "capacity" | "isOnDevice"> = {
    sizes,
    kvDtype,
    kvWeights,
    kvBytes,
    blockSize,
    texts,
    kvTokens,
    maxStepTokens,
    maxLogitRows,
    maxWholeRows: options.drawsTokens === true ? maxLogitRows : 0,
    calibrationTokens,
    prefillChunk: mayGather ? (prefillChunk ?? 0) : 0,
    weights,
    isShared: sharedGpu,
  };
  const machine = machineBytes();
  const planOf = (capacity: number, onDevice = isOnDevice): RankMemoryPlan =>
    planRanks(config, model.storedDTypes, { ...withoutCapacity, capacity, isOnDevice: onDevice }, machine);
  // Of a GPU nobody says how much is free: what fits in a memory of the host is taken there too.
  const most = (): number | undefined => largestContext(config.maxPositions, (tokens) => planOf(tokens, false));
  const capacity = options.capacity ?? most() ?? config.maxPositions;
  const plan = planOf(capacity);
  const inHeap = isOnDevice ? planOf(capacity, false) : plan;
  const canFallBack = backend === "auto" && (sharedGpu || !softwareVulkan) && inHeap.problem === undefined;
  const layout =
    canFallBack && isOnDevice ? { ...plan.layout, cacheBytes: cacheMemoryBytes(inHeap.ranks) } : plan.layout;
  const rank: Omit<RankOptions, "memory"> = {
    model: model.source,
    config,
    sizes,
    backend,
    softwareVulkan,
    gpus,
    sharedGpu,
    batchInvariant: options.batchInvariant ?? true,
    canFallBack,
    combine: options.combine ?? "auto",
    weights,
    kvDtype,
    calibration,
    blockSize,
    interleave: options.interleave ?? 1,
    kvWeights,
    numBlocks: blocksPerRank({ ...withoutCapacity, capacity }),
    prefixCache: options.prefixCache ?? false,
    maxStepTokens,
    maxLogitRows,
    prefillChunk,
  };
  const deadlineMs = options.deadlineMs ?? 120_000;
  const mostKvTokens =
    kvBytes === undefined || kvWeights === undefined
      ? undefined
      : mostBlocks(kvWeights, kvBytes, blockBytes) * blockTokens(withoutCapacity);
  return { rank, texts, maxDraft, deadlineMs, capacity, isOnDevice, mostKvTokens, plan: { ...plan, layout } };
}
