import type { RankWorkerSource } from "@lockstep/dist-groups";
import { type BackendName, installedGpus } from "@lockstep/kernels";
import { ArgumentError, describe } from "@lockstep/tensor";
import { UnfitOptions } from "../errors.ts";
import type { WeightKind } from "../layers/weight.ts";
import type { Model } from "../model/model.ts";
import {
  checkParallelSizes,
  chooseKvLayout,
  type KvHeadLayout,
  leastDcp,
  type ParallelSizes,
} from "../model/tensor-parallel.ts";
import { isQuantisedKv, type KvDtype, type KvScaleSource } from "./kv-calibration.ts";
import { createLoadProgress } from "./load-progress.ts";
import { machineBytes } from "./machine-memory.ts";
import { adviceFor, largestContext } from "./memory-advice.ts";
import { blocksPerRank, type CacheShape, cacheMemoryBytes, planRanks, type RankMemoryPlan } from "./memory-plan.ts";
import type { RankOptions } from "./rank-program.ts";
import { checkTokenIds } from "./token-ids.ts";

/** How a model is spread and run. */
export interface GeneratorOptions {
  /** Ranks, all tensor-parallel. */
  readonly world: number;
  /**
   * Ranks that split the tokens of a KV cache among them; divides `world`. Default: the fewest that leave no KV head
   * stored twice: world / kvHeads where the model's KV heads divide the world, 1 where the world divides them, in
   * general the world by their greatest common divisor; with `kvHeads` "replicated" the world.
   */
  readonly dcp?: number;
  /** Default "auto": sharded where that is legal and not the same as replicated. */
  readonly kvHeads?: KvHeadLayout | "auto";
  /** Default "auto". */
  readonly backend?: BackendName | "auto";
  /** Accept a software adapter for webgpu. Default false. */
  readonly softwareVulkan?: boolean;
  /** GPUs to spread the ranks over, round-robin. Default: all there are. 1: the one that the system prefers. */
  readonly gpus?: number;
  /** One rank of those on a GPU holds the device and runs the others' attention with its own. Default false. */
  readonly sharedGpu?: boolean;
  /** Default "auto". */
  readonly combine?: "ag-rs" | "a2a" | "one-shot" | "auto";
  /**
   * How matrices of weights are kept: as the checkpoint stores them (f32, bf16 or f16), or in int8 with an f32 scale
   * for every 32 elements of a row. Default "stored".
   */
  readonly weights?: WeightKind;
  /** Default "f32". */
  readonly kvDtype?: KvDtype;
  /** Scales of a quantised KV cache (kvDtype f8e4m3 or i8), left out for others. Default "per-token". */
  readonly kvScales?: KvScaleSource;
  /**
   * For static scales: tokens like those of the texts to come, such as a prompt. The keys and values of the first 256
   * of them decide the scales, one for each KV head of each layer.
   */
  readonly calibration?: readonly number[];
  /** Default 16. */
  readonly blockSize?: number;
  /** Default 1. */
  readonly interleave?: number;
  /**
   * Most tokens of one text, prompt included: decides how many KV blocks each rank gets. Default: as many as the model
   * was made for, or as fit.
   */
  readonly capacity?: number;
  /** Most texts at once. Default 1. */
  readonly texts?: number;
  /**
   * Most tokens drafted for a text at a time, found in the text itself and verified in one pass. Default 0: no
   * speculation.
   */
  readonly maxDraft?: number;
  /** Most tokens of one forward pass. Default 256. */
  readonly maxStepTokens?: number;
  /**
   * Prompts are computed so many tokens at a time, one prompt after another, over a context that is gathered so many
   * tokens at a time. Default: in one go with what decodes, up to maxStepTokens, by gathering queries.
   */
  readonly prefillChunk?: number;
  /** Deadline of each step. Default 120 s. */
  readonly deadlineMs?: number;
  /**
   * Workers of your own for the ranks, for bundlers: as `worker` of `openWorld`, with a module that calls
   * `runGeneratorRank` of `@lockstep/language-model/rank`. Default: the library's own.
   */
  readonly worker?: RankWorkerSource | undefined;
  /**
   * Told, while the ranks load, how many `bytes` of weights they have read together, of `totalBytes` that there are.
   */
  readonly onLoad?: (bytes: number, totalBytes: number) => void;
}

/** Options checked against a model, with all that was left out filled in. */
export interface ResolvedOptions {
  /** What every rank is told. */
  readonly rank: RankOptions;
  readonly texts: number;
  readonly maxDraft: number;
  /** Each rank's range of the memory that all ranks share. */
  readonly heapBytesPerRank: number;
  readonly deadlineMs: number;
  /** Bytes of weights that all ranks hold. */
  readonly weightBytes: number;
  readonly onLoad: GeneratorOptions["onLoad"];
  readonly worker: GeneratorOptions["worker"];
}

const NAME = "Generator.open";
/** Tokens of the sample that decides the scales of a quantised KV cache. */
const CALIBRATION_TOKENS = 256;
const MOST = 2 ** 31 - 1;

/** Least values of the counts among the options. */
const LEAST = {
  world: 1,
  dcp: 1,
  capacity: 1,
  blockSize: 1,
  interleave: 1,
  gpus: 1,
  texts: 1,
  maxDraft: 0,
  prefillChunk: 1,
  maxStepTokens: 1,
} as const;
const REQUIRED: readonly string[] = ["world"];

const CHOICES = {
  kvHeads: ["replicated", "sharded", "auto"],
  backend: ["webgpu", "wasm", "reference", "auto"],
  combine: ["ag-rs", "a2a", "one-shot", "auto"],
  kvDtype: ["f32", "f16", "bf16", "f8e4m3", "i8"],
  weights: ["stored", "i8"],
} as const;

/** Options that fit a model, and what its ranks would hold: more than there is, perhaps. */
interface PlannedOptions {
  readonly rank: Omit<RankOptions, "memory" | "loaded">;
  readonly texts: number;
  readonly maxDraft: number;
  readonly deadlineMs: number;
  readonly capacity: number;
  /** Whether the KV cache lies on GPUs. */
  readonly isOnDevice: boolean;
  readonly plan: RankMemoryPlan;
}

/**
 * Checks options and fills in what was left out.
 * @param gpusFound as of {@link planOptions}
 * @throws ArgumentError for a value that no model takes; {@link UnfitOptions} for what does not fit the model, or
 * memory
 */
export function resolveOptions(model: Model, options: GeneratorOptions, gpusFound?: number): ResolvedOptions {
  const { rank, texts, maxDraft, deadlineMs, plan } = planOptions(model, options, gpusFound);
  const { problem, layout } = plan;
  if (problem !== undefined) throw new UnfitOptions(`${problem}: ${adviceOf(model, options)}.`);
  const loaded = createLoadProgress(rank.sizes.world);
  return {
    rank: { ...rank, memory: layout, loaded },
    texts,
    maxDraft,
    heapBytesPerRank: layout.sharedBytes,
    deadlineMs,
    weightBytes: plan.ranks.reduce((sum, { weights }) => sum + weights, 0),
    onLoad: options.onLoad,
    worker: options.worker,
  };
}

/** What of other options would make a model fit. */
export function adviceOf(model: Model, options: GeneratorOptions): string {
  return adviceFor(model.config, options, (changed) => {
    try {
      const { plan, capacity } = planOptions(model, changed);
      return plan.problem === undefined ? capacity : undefined;
    } catch (error) {
      if (error instanceof UnfitOptions) return undefined;
      throw error;
    }
  });
}

/**
 * Checks options and plans the memory of each rank.
 * @param gpusFound GPUs of this machine, which a backend may find that it cannot use
 * @throws ArgumentError for a value that no model takes; {@link UnfitOptions} for what does not fit the model
 */
export function planOptions(
  model: Model,
  options: GeneratorOptions,
  gpusFound: number = installedGpus().length,
): PlannedOptions {
  checkModel(model);
  checkValues(options);
  const { config } = model;
  const {
    world,
    kvHeads = "auto",
    dcp = leastDcp(world, config.kvHeads, kvHeads),
    blockSize = 16,
    kvDtype = "f32",
    prefillChunk,
    texts = 1,
    maxDraft = 0,
    weights = "stored",
  } = options;
  const maxLogitRows = texts * (maxDraft + 1);
  const maxStepTokens = Math.max(options.maxStepTokens ?? 256, maxLogitRows);
  const kvLayout = kvHeads === "auto" ? chooseKvLayout(world, dcp, config.kvHeads) : kvHeads;
  const sizes: ParallelSizes = { world, dcp, kvLayout };
  checkParallelSizes(sizes, config.queryHeads, config.kvHeads);
  if (options.capacity !== undefined && options.capacity > config.maxPositions) {
    throw new UnfitOptions(
      `the text would grow to ${options.capacity} tokens, but the model was made for ${config.maxPositions}: ` +
        "take a shorter `prompt` or fewer `maxTokens`.",
    );
  }
  if (options.calibration !== undefined) checkTokenIds(NAME, "calibration", options.calibration, config.vocabularySize);
  const calibration = calibrationOf(options);
  const gpus = options.gpus ?? Math.max(1, gpusFound);
  const { backend = "auto", softwareVulkan = false, sharedGpu = false } = options;
  const isOnDevice = backend === "webgpu" || (backend === "auto" && gpusFound > 0);
  const withoutCapacity: Omit<CacheShape, "capacity" | "isOnDevice"> = {
    sizes,
    kvDtype,
    blockSize,
    texts,
    maxStepTokens,
    maxLogitRows,
    calibrationTokens: calibration.length,
    prefillChunk: prefillChunk ?? 0,
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
  const rank: Omit<RankOptions, "memory" | "loaded"> = {
    model: model.source,
    config,
    sizes,
    backend,
    softwareVulkan,
    gpus,
    sharedGpu,
    canFallBack,
    combine: options.combine ?? "auto",
    weights,
    kvDtype,
    calibration,
    blockSize,
    interleave: options.interleave ?? 1,
    numBlocks: blocksPerRank({ capacity, texts, blockSize, sizes }),
    maxStepTokens,
    maxLogitRows,
    prefillChunk,
  };
  const deadlineMs = options.deadlineMs ?? 120_000;
  return { rank, texts, maxDraft, deadlineMs, capacity, isOnDevice, plan: { ...plan, layout } };
}

function checkModel(model: Model): void {
  const isObject = (part: unknown): boolean => typeof part === "object" && part !== null;
  const isModel = isObject(model) && (typeof model.source === "string" || isObject(model.source));
  if (isModel && isObject(model.config) && isObject(model.storedDTypes)) return;
  throw new ArgumentError(NAME, "model", "what openModel returned", describe(model));
}

function checkValues(options: GeneratorOptions): void {
  if (typeof options !== "object" || options === null) {
    throw new ArgumentError(NAME, "options", "an object with world", describe(options));
  }
  for (const [name, least] of Object.entries(LEAST)) {
    const value = options[name as keyof typeof LEAST];
    if (value === undefined && !REQUIRED.includes(name)) continue;
    if (value !== undefined && Number.isInteger(value) && value >= least && value <= MOST) continue;
    throw new ArgumentError(NAME, name, `an integer from ${least} to ${MOST}`, describe(value));
  }
  for (const name of ["softwareVulkan", "sharedGpu"] as const) {
    const value: unknown = options[name];
    if (value === undefined || typeof value === "boolean") continue;
    throw new ArgumentError(NAME, name, "true or false", describe(value));
  }
  const { onLoad } = options;
  if (onLoad !== undefined && typeof onLoad !== "function") {
    throw new ArgumentError(NAME, "onLoad", "a function", describe(onLoad));
  }
  for (const [name, known] of Object.entries(CHOICES)) {
    const value: string | undefined = options[name as keyof typeof CHOICES];
    if (value === undefined || known.some((choice) => choice === value)) continue;
    throw new ArgumentError(NAME, name, `one of ${known.join(", ")}`, describe(value));
  }
}

/** The sample that decides static scales of a quantised KV cache; empty for other caches. */
function calibrationOf({ kvDtype = "f32", kvScales, calibration = [] }: GeneratorOptions): readonly number[] {
  const isQuantised = isQuantisedKv(kvDtype);
  const isKnown = kvScales === undefined || kvScales === "per-token" || kvScales === "static";
  if (!isKnown || (!isQuantised && kvScales !== undefined)) {
    const expected = isQuantised ? '"per-token" or "static"' : `left out for a kvDtype of ${kvDtype}`;
    throw new ArgumentError(NAME, "kvScales", expected, describe(kvScales));
  }
  if (kvScales !== "static") return [];
  if (calibration.length === 0) {
    throw new UnfitOptions(`a KV cache in ${kvDtype} needs calibration tokens for static scales, but there are none.`);
  }
  return calibration.slice(0, CALIBRATION_TOKENS);
}
