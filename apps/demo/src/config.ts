import { existsSync } from "node:fs";
import { join } from "node:path";
import { ARCHITECTURE_NAMES, type Architecture, type AttentionBias, findArchitecture } from "./architectures.ts";
import { ModelError } from "./errors.ts";
import { describeJson, isJsonObject, type JsonObject, readCount, readJsonObject, readPositive } from "./json-file.ts";
import { type RopeScaling, readRopeScaling, scaledPositions } from "./rope-scaling.ts";

/** What config.json says about a model, checked. Plain data: it crosses to the ranks. */
export interface ModelConfig {
  readonly architecture: string;
  readonly layers: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabularySize: number;
  readonly normEpsilon: number;
  readonly attentionBias: AttentionBias;
  /** Every head's query and key are RMS-normalised before they are rotated. */
  readonly queryKeyNorm: boolean;
  /** Each layer's sliding window: a token at position p sees (p - window, p]; null for everything before it. */
  readonly windows: readonly (number | null)[];
  readonly ropeTheta: number;
  readonly ropeScaling?: RopeScaling;
  /** Longest sequence the model was made for. */
  readonly maxPositions: number;
  /** The embedding table is also the output projection. */
  readonly tiedEmbeddings: boolean;
  /** Tokens that end a text. */
  readonly endTokens: readonly number[];
}

/**
 * Reads config.json (and generation_config.json, when there is one) of a model folder in Hugging Face format.
 * Throws {@link ModelError} when a value is missing or asks for something this app does not compute: it names the field and
 * what it holds.
 */
export function readModelConfig(folder: string): ModelConfig {
  const path = join(folder, "config.json");
  const json = readJsonObject(path);
  const architecture = readArchitecture(path, json);
  const count = (key: string, fallback?: number): number => readCount(path, json, key, fallback);

  requireValue(path, json, "hidden_act", "silu", "silu");
  requireValue(path, json, "mlp_bias", false, false);
  requireValue(path, json, "partial_rotary_factor", 1, 1);
  requireValue(path, json, "quantization_config", null, null);

  const layers = count("num_hidden_layers");
  const hiddenSize = count("hidden_size");
  const queryHeads = count("num_attention_heads");
  const kvHeads = count("num_key_value_heads", queryHeads);
  if (queryHeads % kvHeads !== 0) {
    throw new ModelError(
      path,
      "num_key_value_heads to divide num_attention_heads",
      `${kvHeads} and ${queryHeads} heads`,
    );
  }
  const headDim = count("head_dim", architecture.headDim ?? hiddenSize / queryHeads);
  if (headDim % 2 !== 0) throw new ModelError(path, "an even head_dim", String(headDim));
  const maxPositions = count("max_position_embeddings", 2048);
  const { theta: ropeTheta, scaling } = readRope(path, json, maxPositions);
  return {
    architecture: architecture.name,
    layers,
    hiddenSize,
    intermediateSize: count("intermediate_size"),
    queryHeads,
    kvHeads,
    headDim,
    vocabularySize: count("vocab_size"),
    normEpsilon: readPositive(path, json, "rms_norm_eps", 1e-6),
    attentionBias: readAttentionBias(path, json, architecture),
    queryKeyNorm: architecture.queryKeyNorm,
    windows: readWindows(path, json, architecture, layers),
    ropeTheta,
    ...(scaling === undefined ? {} : { ropeScaling: scaling }),
    maxPositions: scaledPositions(maxPositions, scaling),
    tiedEmbeddings: json.tie_word_embeddings === true,
    endTokens: readEndTokens(folder, json),
  };
}

function readArchitecture(path: string, json: JsonObject): Architecture {
  const listed = Array.isArray(json.architectures) ? json.architectures.map(String) : [];
  for (const name of listed) {
    const known = findArchitecture(name);
    if (known !== undefined) return known;
  }
  const found = listed.length === 0 ? "none" : listed.join(", ");
  throw new ModelError(path, `an architecture among ${ARCHITECTURE_NAMES.join(", ")}`, found);
}

function readAttentionBias(path: string, json: JsonObject, architecture: Architecture): AttentionBias {
  const configured = json.attention_bias ?? architecture.attentionBias === "qkv";
  if (typeof configured !== "boolean") {
    throw new ModelError(path, "attention_bias to be true or false", describeJson(configured));
  }
  if (architecture.attentionBias === "configured") return configured ? "qkvo" : "none";
  // These families' own code does not read the field.
  const isAsMade = configured === (architecture.attentionBias === "qkv");
  if (!isAsMade) {
    throw new ModelError(path, `attention_bias to be ${!configured} for ${architecture.name}`, String(configured));
  }
  return architecture.attentionBias;
}

/** Each layer's sliding window. */
function readWindows(path: string, json: JsonObject, architecture: Architecture, layers: number): (number | null)[] {
  const all = (window: number | null): (number | null)[] => Array.from({ length: layers }, () => window);
  if (architecture.slidingWindow === "none") return all(null);
  const isOn = architecture.slidingWindow === "all-layers" || json.use_sliding_window === true;
  const window = isOn && (json.sliding_window ?? null) !== null ? readCount(path, json, "sliding_window") : null;
  const types = json.layer_types ?? null;
  if (types === null) {
    if (window === null || architecture.slidingWindow === "all-layers") return all(window);
    const first = json.max_window_layers ?? 28;
    if (typeof first !== "number" || !Number.isInteger(first) || first < 0) {
      throw new ModelError(path, "max_window_layers to be a non-negative integer", describeJson(first));
    }
    return all(window).map((size, layer) => (layer < first ? null : size));
  }
  if (!Array.isArray(types) || types.length !== layers) {
    throw new ModelError(path, `layer_types for each of num_hidden_layers ${layers}`, describeJson(types));
  }
  return types.map((type: unknown, layer) => {
    if (type === "full_attention") return null;
    if (type !== "sliding_attention") {
      throw new ModelError(path, `layer_types[${layer}] full_attention or sliding_attention`, describeJson(type));
    }
    if (window === null) {
      throw new ModelError(path, `a sliding_window for layer_types[${layer}] sliding_attention`, "none in use");
    }
    return window;
  });
}

/** Base and scaling of the rotary angles: in `rope_parameters` since transformers 5, `rope_theta` and `rope_scaling` before. */
function readRope(
  path: string,
  json: JsonObject,
  maxPositions: number,
): { theta: number; scaling: RopeScaling | undefined } {
  const field = isJsonObject(json.rope_parameters) ? "rope_parameters" : "rope_scaling";
  const scaling = json[field] ?? {};
  if (!isJsonObject(scaling)) throw new ModelError(path, `${field} to be an object`, describeJson(scaling));
  const perLayer = Object.keys(scaling).find((key) => isJsonObject(scaling[key]));
  if (perLayer !== undefined) throw new ModelError(path, `one ${field} for all layers`, `one for ${perLayer}`);
  requireValue(path, scaling, "partial_rotary_factor", 1, 1);
  const theta = readPositive(path, field === "rope_parameters" ? scaling : json, "rope_theta", 10000);
  if (theta <= 1) throw new ModelError(path, "rope_theta above 1", String(theta));
  return { theta, scaling: readRopeScaling(path, field, scaling, maxPositions) };
}

function readEndTokens(folder: string, json: JsonObject): number[] {
  const path = join(folder, "generation_config.json");
  const generation = existsSync(path) ? readJsonObject(path) : {};
  const value = generation.eos_token_id ?? json.eos_token_id ?? [];
  return (Array.isArray(value) ? value : [value]).filter((id): id is number => Number.isInteger(id));
}

function requireValue(path: string, json: JsonObject, key: string, wanted: unknown, fallback: unknown): void {
  const value = json[key] ?? fallback;
  if (value !== wanted) throw new ModelError(path, `${key} to be ${describeJson(wanted)}`, describeJson(value));
}
