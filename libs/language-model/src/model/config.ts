import { describeName } from "@lockstep/tensor";
import { ModelError } from "../errors.ts";
import { ARCHITECTURE_NAMES, type Architecture, type AttentionBias, findArchitecture } from "./architectures.ts";
import { describeJson, isJsonObject, type JsonObject, readCount, readPositive } from "./json-file.ts";
import type { ModelFolder } from "./model-files.ts";
import { type RopeScaling, readRopeScaling, scaledPositions } from "./rope-scaling.ts";

/** What config.json says about a model, checked. Plain data: it crosses to the ranks. */
export interface ModelConfig {
  /** As config.json names it, such as `LlamaForCausalLM`. */
  readonly architecture: string;
  /** Transformer layers. */
  readonly layers: number;
  /** Width of the hidden state. */
  readonly hiddenSize: number;
  /** Columns of the MLP's hidden layer. */
  readonly intermediateSize: number;
  /** Query heads of a layer. */
  readonly queryHeads: number;
  /** KV heads of a layer. */
  readonly kvHeads: number;
  /** Width of a head. */
  readonly headDim: number;
  /** Number of tokens. */
  readonly vocabularySize: number;
  /** Added to the mean square in every RMSNorm. */
  readonly normEpsilon: number;
  /** Which projections of attention have a bias. */
  readonly attentionBias: AttentionBias;
  /** Every head's query and key are RMS-normalised before they are rotated. */
  readonly queryKeyNorm: boolean;
  /** Each layer's sliding window: a token at position p sees (p - window, p]; null for everything before it. */
  readonly windows: readonly (number | null)[];
  /** Base of the angles of RoPE. */
  readonly ropeTheta: number;
  /** How angles of RoPE are stretched for long contexts; left out when they are not. */
  readonly ropeScaling?: RopeScaling;
  /** Longest sequence the model was made for. */
  readonly maxPositions: number;
  /** The embedding table is also the output projection. */
  readonly tiedEmbeddings: boolean;
  /** Tokens that end a text: those of config.json and of generation_config.json, each once. */
  readonly endTokens: readonly number[];
}

/**
 * Reads config.json (and generation_config.json, when there is one) of a model folder in Hugging Face format. Throws
 * {@link ModelError} when a value is missing or asks for something this library does not compute: it names the field
 * and what it holds.
 */
export function readModelConfig(folder: ModelFolder): ModelConfig {
  const path = folder.path("config.json");
  const json = folder.json("config.json");
  const architecture = readArchitecture(path, json);
  const { defaults } = architecture;
  const count = (key: Count): number => readCount(path, json, key, defaults[key]);

  requireValue(path, json, "hidden_act", "silu", "silu");
  requireValue(path, json, "mlp_bias", false, false);
  requireValue(path, json, "partial_rotary_factor", 1, 1);
  requireValue(path, json, "quantization_config", null, null);

  const layers = count("num_hidden_layers");
  if (layers > MOST_LAYERS) throw new ModelError(path, `num_hidden_layers of at most ${MOST_LAYERS}`, String(layers));
  const hiddenSize = count("hidden_size");
  const queryHeads = count("num_attention_heads");
  const kvHeads = readCountOrNull(path, json, "num_key_value_heads", defaults.num_key_value_heads) ?? queryHeads;
  if (queryHeads % kvHeads !== 0) {
    throw new ModelError(
      path,
      "num_key_value_heads to divide num_attention_heads",
      `${kvHeads} and ${queryHeads} heads`,
    );
  }
  const headDim =
    readCountOrNull(path, json, "head_dim", defaults.head_dim) ??
    defaults.head_dim ??
    Math.floor(hiddenSize / queryHeads);
  if (headDim < 2 || headDim % 2 !== 0) throw new ModelError(path, "an even head_dim", String(headDim));
  const maxPositions = count("max_position_embeddings");
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
    normEpsilon: readPositive(path, json, "rms_norm_eps", defaults.rms_norm_eps),
    attentionBias: readAttentionBias(path, json, architecture),
    queryKeyNorm: architecture.queryKeyNorm,
    windows: readWindows(path, json, architecture, layers),
    ropeTheta,
    ...(scaling === undefined ? {} : { ropeScaling: scaling }),
    maxPositions: scaledPositions(maxPositions, scaling),
    tiedEmbeddings: readTied(path, json),
    endTokens: readEndTokens(folder, json, defaults.eos_token_id),
  };
}

/** Keys of config.json that are counts and may not be null. */
type Count =
  | "vocab_size"
  | "hidden_size"
  | "intermediate_size"
  | "num_hidden_layers"
  | "num_attention_heads"
  | "max_position_embeddings";

/**
 * More layers than any model has: what is made for each layer stays small until the checkpoint has been asked for them.
 */
const MOST_LAYERS = 4096;

function readCountOrNull(path: string, json: JsonObject, key: string, fallback: number | null): number | null {
  const value = Object.hasOwn(json, key) ? json[key] : fallback;
  return value === null ? null : readCount(path, { [key]: value }, key);
}

function readTied(path: string, json: JsonObject): boolean {
  const value = json.tie_word_embeddings ?? false;
  if (typeof value === "boolean") return value;
  throw new ModelError(path, "tie_word_embeddings to be true or false", describeJson(value));
}

function readArchitecture(path: string, json: JsonObject): Architecture {
  const listed = Array.isArray(json.architectures) ? json.architectures : [];
  for (const name of listed) {
    const known = typeof name === "string" ? findArchitecture(name) : undefined;
    if (known !== undefined) return known;
  }
  const shown = listed.slice(0, 4).map((name) => (typeof name === "string" ? describeName(name) : describeJson(name)));
  const found = shown.length === 0 ? "none" : shown.join(", ");
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
  const isMistral = architecture.slidingWindow === "all-layers";
  const isOn = json.use_sliding_window ?? false;
  if (typeof isOn !== "boolean" && !isMistral) {
    throw new ModelError(path, "use_sliding_window to be true or false", describeJson(isOn));
  }
  const window =
    isOn === true || isMistral
      ? readCountOrNull(path, json, "sliding_window", architecture.defaults.sliding_window)
      : null;
  const types = json.layer_types ?? null;
  if (types === null) {
    if (window === null || isMistral) return all(window);
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

/**
 * Base and scaling of the rotary angles, as transformers 5 joins their old and new places: `rope_scaling`, if it says
 * anything, stands for `rope_parameters`; `rope_theta` beside them counts where they have none.
 */
function readRope(
  path: string,
  json: JsonObject,
  maxPositions: number,
): { theta: number; scaling: RopeScaling | undefined } {
  const field = isTruthy(json.rope_scaling) ? "rope_scaling" : "rope_parameters";
  const scaling = json[field] ?? {};
  if (!isJsonObject(scaling)) throw new ModelError(path, `${field} to be an object`, describeJson(scaling));
  const perLayer = Object.keys(scaling).find((key) => isJsonObject(scaling[key]));
  if (perLayer !== undefined) {
    throw new ModelError(path, `one ${field} for all layers`, `one for ${describeName(perLayer)}`);
  }
  requireValue(path, scaling, "partial_rotary_factor", 1, 1);
  const isInside = (scaling.rope_theta ?? null) !== null;
  const theta = readPositive(path, isInside ? scaling : json, "rope_theta", 10000, isInside ? field : undefined);
  if (theta <= 1) throw new ModelError(path, "rope_theta above 1", String(theta));
  // What stands beside the scaling, as Phi 3 has it, comes before what stands in it.
  const original = json.original_max_position_embeddings ?? scaling.original_max_position_embeddings;
  const joined = { ...scaling, original_max_position_embeddings: original ?? maxPositions };
  return { theta, scaling: readRopeScaling(path, field, joined, maxPositions) };
}

/** As Python has it: null, an empty object and the like count as absent. */
function isTruthy(value: unknown): boolean {
  return isJsonObject(value) ? Object.keys(value).length > 0 : Array.isArray(value) ? value.length > 0 : Boolean(value);
}

/**
 * Tokens that end a text, each once: those that generation_config.json names and those that config.json names. Chat
 * models have the end of a turn in the one, and the end of a document in the other. `fallback` counts where neither
 * says anything.
 */
function readEndTokens(folder: ModelFolder, json: JsonObject, fallback: number | null): readonly number[] {
  const name = "generation_config.json";
  const generation = folder.has(name) ? folder.json(name).eos_token_id : undefined;
  const isSilent = (generation ?? null) === null && !Object.hasOwn(json, "eos_token_id");
  const configured = isSilent ? fallback : json.eos_token_id;
  return [
    ...new Set([...endTokens(folder.path(name), generation), ...endTokens(folder.path("config.json"), configured)]),
  ];
}

function endTokens(path: string, value: unknown): readonly number[] {
  const isNone = value === undefined || value === null;
  const ids: unknown[] = Array.isArray(value) ? value : isNone ? [] : [value];
  return ids.map((id) => {
    if (typeof id === "number" && Number.isSafeInteger(id) && id >= 0) return id;
    throw new ModelError(path, "eos_token_id to be a token id or a list of them", describeJson(value));
  });
}

function requireValue(path: string, json: JsonObject, key: string, wanted: unknown, fallback: unknown): void {
  const value = json[key] ?? fallback;
  if (value !== wanted) throw new ModelError(path, `${key} to be ${describeJson(wanted)}`, describeJson(value));
}
