/**
 * Text from language models whose weights and KV cache are spread over ranks. Begin with {@link openModel} and
 * {@link Generator}.
 *
 * @module @lockstep/language-model
 */
export { Engine } from "./engine/engine.ts";
export type { EngineOptions } from "./engine/engine-options.ts";
export type { EngineStatus, EngineTotals } from "./engine/engine-status.ts";
export type {
  ChatMessage,
  FinishReason,
  GeneratedPart,
  GeneratedToken,
  Prompt,
  RequestOptions,
  Usage,
} from "./engine/request-options.ts";
export type { EngineStep, TextEngine } from "./engine/text-engine.ts";
export {
  ChatTemplateError,
  EngineBusy,
  LogitsNotFinite,
  ModelError,
  MoveFailed,
  PrefixStoreError,
  type PrefixStoreReason,
  RanksFailed,
  UnfitOptions,
} from "./errors.ts";
export { chooseWorld, type WorldCandidate, type WorldChoice } from "./generation/choose-world.ts";
export type { ExplainedQuery, Explanation } from "./generation/explanation.ts";
export type { GenerateOptions } from "./generation/generate-options.ts";
export { Generator } from "./generation/generator.ts";
export type { GeneratorOptions, SizedOptions } from "./generation/generator-options.ts";
export { isQuantisedKv, type KvDtype, type KvScaleSource, type QuantisedKv } from "./generation/kv-calibration.ts";
export type { RankMemory } from "./generation/memory-plan.ts";
export { type MemoryPlan, planMemory, planWorlds, type WorldPlan } from "./generation/plan-memory.ts";
export { planResize, type ResizePlan } from "./generation/plan-resize.ts";
export type { RankMetrics } from "./generation/rank-program.ts";
export type { ResizeChanges, ResizeOptions } from "./generation/resize-options.ts";
export type { Exchanged } from "./generation/step-trace.ts";
export type { TextToken } from "./generation/token-stream.ts";
export { spreadOptions } from "./generation/world-candidates.ts";
export type { WorldTimes } from "./generation/world-times.ts";
export type { StoredDType, WeightKind } from "./layers/weight.ts";
export type { AttentionBias } from "./model/architectures.ts";
export { ChatTemplate, type RenderOptions } from "./model/chat-template.ts";
export type { ModelConfig } from "./model/config.ts";
export { type FetchModelOptions, fetchModel } from "./model/fetch-model.ts";
export { type Model, openModel } from "./model/model.ts";
export type { ModelFiles, ModelSource } from "./model/model-files.ts";
export type { RopeScaling } from "./model/rope-scaling.ts";
export type { StoredDTypes } from "./model/stored-dtypes.ts";
export type { KvHeadLayout, ParallelSizes, Range } from "./model/tensor-parallel.ts";
export { type EncodeOptions, StreamDecoder, Tokenizer } from "./model/tokenizer.ts";
export { MOST_LOGPROBS, type SamplingOptions } from "./sampling/sampling-options.ts";
export type { TokenLogprob } from "./sampling/token-logprob.ts";
