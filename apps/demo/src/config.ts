import { existsSync } from "node:fs";
import { join } from "node:path";
import { ARCHITECTURE_NAMES, findArchitecture } from "./architectures.ts";
import { ModelError } from "./errors.ts";
import { isJsonObject, type JsonObject, readJsonObject } from "./json-file.ts";

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
  readonly ropeTheta: number;
  /** Longest sequence the model was made for. */
  readonly maxPositions: number;
  /** The embedding table is also the output projection. */
  readonly tiedEmbeddings: boolean;
  /** Tokens that end a text. */
  readonly endTokens: readonly number[];
}

/**
 * Reads config.json (and generation_config.json, when there is one) of a model folder in Hugging Face format.
 * Throws {@link ModelError} when a value is missing or asks for something this app does not compute.
 */
export function readModelConfig(folder: string): ModelConfig {
  const path = join(folder, "config.json");
  const json = readJsonObject(path);
  const architecture = readArchitecture(path, json);
  const count = (key: string, fallback?: number): number => readCount(path, json, key, fallback);

  requireValue(path, json, "hidden_act", "silu", "silu");
  requireValue(path, json, "attention_bias", false, false);
  requireValue(path, json, "mlp_bias", false, false);
  requireValue(path, json, "partial_rotary_factor", 1, 1);

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
  const headDim = count("head_dim", hiddenSize / queryHeads);
  if (headDim % 2 !== 0) throw new ModelError(path, "an even head_dim", String(headDim));
  return {
    architecture,
    layers: count("num_hidden_layers"),
    hiddenSize,
    intermediateSize: count("intermediate_size"),
    queryHeads,
    kvHeads,
    headDim,
    vocabularySize: count("vocab_size"),
    normEpsilon: readPositive(path, json, "rms_norm_eps", 1e-6),
    ropeTheta: readRopeTheta(path, json),
    maxPositions: count("max_position_embeddings", 2048),
    tiedEmbeddings: json.tie_word_embeddings === true,
    endTokens: readEndTokens(folder, json),
  };
}

function readArchitecture(path: string, json: JsonObject): string {
  const listed = Array.isArray(json.architectures) ? json.architectures.map(String) : [];
  const known = listed.find((name) => findArchitecture(name) !== undefined);
  if (known === undefined) {
    const found = listed.length === 0 ? "none" : listed.join(", ");
    throw new ModelError(path, `an architecture among ${ARCHITECTURE_NAMES.join(", ")}`, found);
  }
  return known;
}

/** The base of the rotary angles; `rope_parameters` since transformers 5, `rope_theta` and `rope_scaling` before. */
function readRopeTheta(path: string, json: JsonObject): number {
  const parameters = isJsonObject(json.rope_parameters) ? json.rope_parameters : json;
  const scaling = isJsonObject(json.rope_parameters) ? json.rope_parameters : json.rope_scaling;
  if (isJsonObject(scaling)) {
    const type = scaling.rope_type ?? scaling.type ?? "default";
    if (type !== "default") throw new ModelError(path, "rope_type default (no scaling)", String(type));
  }
  const theta = readPositive(path, parameters, "rope_theta", 10000);
  if (theta <= 1) throw new ModelError(path, "rope_theta above 1", String(theta));
  return theta;
}

function readEndTokens(folder: string, json: JsonObject): number[] {
  const path = join(folder, "generation_config.json");
  const generation = existsSync(path) ? readJsonObject(path) : {};
  const value = generation.eos_token_id ?? json.eos_token_id ?? [];
  return (Array.isArray(value) ? value : [value]).filter((id): id is number => Number.isInteger(id));
}

function readCount(path: string, json: JsonObject, key: string, fallback: number | undefined): number {
  const value = json[key] ?? fallback;
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1) {
    throw new ModelError(path, `${key} to be a positive integer`, describe(value));
  }
  return value;
}

function readPositive(path: string, json: JsonObject, key: string, fallback: number): number {
  const value = json[key] ?? fallback;
  if (typeof value !== "number" || !Number.isFinite(value) || value <= 0) {
    throw new ModelError(path, `${key} to be a positive number`, describe(value));
  }
  return value;
}

function requireValue(path: string, json: JsonObject, key: string, wanted: unknown, fallback: unknown): void {
  const value = json[key] ?? fallback;
  if (value !== wanted) throw new ModelError(path, `${key} to be ${describe(wanted)}`, describe(value));
}

function describe(value: unknown): string {
  return value === undefined ? "nothing" : JSON.stringify(value);
}
