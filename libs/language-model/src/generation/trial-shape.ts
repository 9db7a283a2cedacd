// How much of a model a trial runs, and what its ranks need for it.
import { placementOf } from "@lockstep/dist-groups";
import { DTYPE_BYTES } from "@lockstep/tensor";
import { matrixBytes } from "../layers/weight.ts";
import { findArchitecture } from "../model/architectures.ts";
import type { Model } from "../model/model.ts";
import { storedDTypeOf } from "../model/stored-dtypes.ts";
import { rankShare } from "../model/tensor-parallel.ts";
import { weightBytes } from "../model/weight-bytes.ts";
import type { GeneratorOptions, SizedOptions } from "./generator-options.ts";
import { hostHeapBytes, MEMORY_BYTES, mostRanks } from "./memory-plan.ts";
import { type PlannedOptions, planOptions } from "./resolve-options.ts";
import type { TrialOptions } from "./trial-program.ts";

const MEBI = 1 << 20;
/** Layers whose weights stay in the caches of a CPU are timed as so many bytes of them. */
const CACHED_BYTES = 2 * MEBI;
/** Of models larger than this, which come from memory at every step, weights of so many bytes are read. */
const MOST_CACHED_BYTES = 32 * MEBI;
const UNCACHED_BYTES = 96 * MEBI;
/** Most bytes of embeddings, which are output weights as well. */
const VOCABULARY_BYTES = 16 * MEBI;
/** Most bytes of keys and values: those of 16,384 tokens of a small model, where the times of fewer would tell less. */
const KV_BYTES = 32 * MEBI;
const MOST_TOKENS = 16_384;
const MOST_TEXTS = 16;
/** Tokens of a prompt's step. */
const PROMPT_TOKENS = 64;
/** Shorter texts are over before it has paid to time prompts. */
const LONG_CONTEXT = 512;
const ONE = { world: 1, dcp: 1, kvLayout: "replicated" } as const;

/** A part of a model that takes little time, and how the times of the whole follow. */
export interface TrialShape {
  /** The model with fewer layers and a smaller vocabulary. */
  readonly model: Model;
  /** Texts of a step. */
  readonly texts: number;
  /** Tokens that every text has, one length after another: one, or two to go on from. */
  readonly lengths: readonly number[];
  /** Tokens of a prompt's step; 0 when that is not timed. */
  readonly promptTokens: number;
  /** Tokens of the prompt before them: half of the longest text where there is room, as prompts have on average. */
  readonly promptStart: number;
  /** Bytes of the weights of the whole model. */
  readonly modelBytes: number;
}

/** The part of a model that is timed for texts of `context` tokens. */
export function trialShape(model: Model, options: GeneratorOptions, context: number): TrialShape {
  const { config, storedDTypes } = model;
  const { weights = "stored", kvDtype = "f32" } = options;
  const bytesOf = (layers: number): number => {
    const part = { ...config, layers, windows: config.windows.slice(0, layers) };
    return weightBytes(storedDTypes, part, rankShare(ONE, 0, part), weights);
  };
  const layerBytes = Math.max(1, (bytesOf(config.layers) - bytesOf(1)) / Math.max(1, config.layers - 1));
  const modelBytes = bytesOf(config.layers);
  const wanted = modelBytes <= MOST_CACHED_BYTES ? CACHED_BYTES : UNCACHED_BYTES;
  const layers = Math.min(config.layers, Math.max(2, Math.ceil(wanted / layerBytes)));
  const embedding = findArchitecture(config.architecture)?.embedding ?? "";
  const rowBytes = matrixBytes(weights, storedDTypeOf(storedDTypes, embedding), 1, config.hiddenSize);
  const rows = Math.max(config.queryHeads, Math.floor(VOCABULARY_BYTES / rowBytes));
  const part = {
    ...config,
    layers,
    windows: config.windows.slice(0, layers),
    vocabularySize: Math.min(config.vocabularySize, rows),
    tiedEmbeddings: true,
  };
  const texts = Math.min(MOST_TEXTS, options.texts ?? 1);
  const tokenBytes = 2 * layers * config.kvHeads * config.headDim * DTYPE_BYTES[kvDtype];
  const most = Math.min(MOST_TOKENS, Math.max(1, Math.floor(KV_BYTES / (tokenBytes * texts))));
  const length = context - 1;
  const lengths = length <= most ? [length] : [Math.floor(most / 4), most];
  const promptTokens = context < LONG_CONTEXT ? 0 : Math.min(PROMPT_TOKENS, options.maxStepTokens ?? PROMPT_TOKENS);
  const longest = Math.max(...lengths);
  const promptStart = Math.max(0, Math.min(Math.floor(longest / 2), longest + 1 - promptTokens));
  return { model: { ...model, config: part }, texts, lengths, promptTokens, promptStart, modelBytes };
}

/** What the world of a trial is opened with. */
export interface TrialPlan {
  readonly size: number;
  readonly options: TrialOptions;
  readonly heapBytesPerRank: number;
  readonly gpus: number;
  /** Deadline of each call. */
  readonly deadlineMs: number;
}

/**
 * Plans the trial of candidates, which fit the model and memory.
 * @throws UnfitOptions, ArgumentError
 */
export function planTrial(model: Model, shape: TrialShape, candidates: readonly SizedOptions[]): TrialPlan {
  const { texts, lengths, promptTokens, promptStart } = shape;
  const plans = candidates.map((options) => planOptions(shape.model, partOptions(withWeights(model, options), shape)));
  const [first] = plans;
  if (first === undefined) throw new RangeError("there is no candidate");
  const size = Math.max(...plans.map(({ rank }) => rank.sizes.world));
  const { rank } = first;
  const bytes = perRank(plans, size);
  const placement = placementOf(size);
  // What comes from other processes lands beside what a rank has.
  const ofRank = bytes.all + (placement.processes.length > 1 ? bytes.exchanged : 0);
  const commonBytes = placement.controlBytes + 2 * hostHeapBytes(texts);
  const isOneMemory = ofRank * mostRanks(placement) + commonBytes <= MEMORY_BYTES;
  const { backend, softwareVulkan, gpus, sharedGpu, batchInvariant, canFallBack, combine, weights, kvDtype } = rank;
  return {
    size,
    gpus,
    deadlineMs: first.deadlineMs,
    heapBytesPerRank: isOneMemory ? bytes.all : bytes.exchanged,
    options: {
      isTrial: true,
      ...{ backend, softwareVulkan, gpus, sharedGpu, batchInvariant, canFallBack, weights, kvDtype },
      config: rank.config,
      stored: model.storedDTypes,
      // What "auto" takes is known after many steps: with few tokens mostly this.
      combine: combine !== "auto" ? combine : rank.sizes.deterministic === undefined ? "one-shot" : "a2a",
      blockSize: rank.blockSize,
      interleave: rank.interleave,
      maxStepTokens: rank.maxStepTokens,
      ownBytes: isOneMemory ? 0 : bytes.all,
      candidates: plans.map(({ rank: { sizes, kvWeights, numBlocks } }) => ({ sizes, kvWeights, numBlocks })),
      texts,
      lengths,
      promptTokens,
      promptStart,
      layers: model.config.layers,
      vocabulary: model.config.vocabularySize,
    },
  };
}

/** The same with shares of the KV cache as they are of the whole model, of which there may be less room. */
function withWeights(model: Model, options: SizedOptions): SizedOptions {
  const { kvBytes, ...same } = options;
  if (kvBytes === undefined) return options;
  const { kvWeights } = planOptions(model, options).rank;
  return kvWeights === undefined ? same : { ...same, kvWeights };
}

/** A candidate's options for the part of the model: room for the texts and a prompt. */
function partOptions(options: SizedOptions, { texts, lengths, promptTokens }: TrialShape): SizedOptions {
  const { prefillChunk: _, kvScales: __, calibration: ___, onLoad: ____, ...same } = options;
  const capacity = Math.max(promptTokens, Math.max(...lengths) + 1);
  return { ...same, capacity, texts: texts + 1, maxDraft: 0, maxStepTokens: Math.max(promptTokens, texts + 1) };
}

/** Bytes of the rank that needs most, all candidates together, whose weights lie over each other. */
function perRank(plans: readonly PlannedOptions[], size: number): { readonly all: number; readonly exchanged: number } {
  let [all, exchanged] = [0, 0];
  for (let rank = 0; rank < size; rank++) {
    const parts = plans.map(({ plan }) => plan.ranks[rank]).filter((part) => part !== undefined);
    const sum = (of: (part: (typeof parts)[number]) => number): number =>
      parts.reduce((total, part) => total + of(part), 0);
    const weights = Math.max(...parts.map((part) => part.weights));
    const other = sum(({ kvCache, scratch, exchange }) => kvCache + scratch + exchange);
    all = Math.max(all, weights + other);
    exchanged = Math.max(
      exchanged,
      sum(({ exchange }) => exchange),
    );
  }
  // Alignment, and caches of ranks that find no GPU although there is one.
  const slack = plans.some(({ isOnDevice }) => isOnDevice) ? 4 * KV_BYTES : KV_BYTES;
  const inMebi = (bytes: number): number => Math.ceil((bytes + slack) / MEBI) * MEBI;
  return { all: inMebi(all), exchanged: inMebi(exchanged) };
}
