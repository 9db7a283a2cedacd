// How models stretch the rotary position embedding to longer texts than they were trained on first.
import { ModelError } from "../errors.ts";
import { describeJson, type JsonObject, readCount, readPositive } from "./json-file.ts";
import { naturalLog } from "./natural-log.ts";
import { inverseFrequencies } from "./rope-frequencies.ts";

/** Scaling of the rotary angles. Plain data. */
export type RopeScaling =
  /** Every angle divided by `factor`. */
  | { readonly type: "linear"; readonly factor: number }
  /**
   * Llama 3: turns longer than `originalPositions / lowFrequencyFactor` are divided by `factor`, shorter ones blended.
   */
  | {
      readonly type: "llama3";
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly originalPositions: number;
    }
  /** YaRN (Peng et al. 2023): a ramp over the dimensions, and cosines and sines times `attentionFactor`. */
  | {
      readonly type: "yarn";
      readonly factor: number;
      readonly originalPositions: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      readonly truncate: boolean;
      readonly attentionFactor: number;
    };

/**
 * The scaling that a config's `rope_parameters` or `rope_scaling` asks for; undefined for none.
 * Throws {@link ModelError} for a type that this library does not compute.
 * @param field the field's name in config.json, for messages
 * @param maxPositions `max_position_embeddings`, where the scaling names no original length
 */
export function readRopeScaling(
  path: string,
  field: string,
  json: JsonObject,
  maxPositions: number,
): RopeScaling | undefined {
  const type = json.rope_type ?? json.type ?? "default";
  // A null counts as absent, as transformers takes it.
  const given = Object.fromEntries(Object.entries(json).filter(([, value]) => value !== null));
  const positive = (key: string, fallback?: number): number => readPositive(path, given, key, fallback, field);
  const originalPositions = (): number =>
    readCount(path, given, "original_max_position_embeddings", maxPositions, field);
  switch (type) {
    case "default":
      return undefined;
    case "linear":
      return { type: "linear", factor: readFactor(path, field, positive("factor"), maxPositions) };
    case "llama3": {
      const [low, high] = [positive("low_freq_factor"), positive("high_freq_factor")];
      if (low >= high) {
        throw new ModelError(path, `${field}.low_freq_factor below high_freq_factor ${high}`, String(low));
      }
      return {
        type: "llama3",
        factor: readFactor(path, field, positive("factor"), maxPositions),
        lowFrequencyFactor: low,
        highFrequencyFactor: high,
        originalPositions: originalPositions(),
      };
    }
    case "yarn": {
      for (const key of ["mscale", "mscale_all_dim"]) {
        if ((json[key] ?? null) !== null) throw new ModelError(path, `no ${field}.${key}`, describeJson(json[key]));
      }
      const factor = readFactor(path, field, positive("factor"), maxPositions);
      return {
        type: "yarn",
        factor,
        originalPositions: originalPositions(),
        betaFast: positive("beta_fast", 32),
        betaSlow: positive("beta_slow", 1),
        truncate: readTruncate(path, field, json),
        attentionFactor: readAttentionFactor(path, field, positive("attention_factor", defaultAttentionFactor(factor))),
      };
    }
    default:
      throw new ModelError(path, `${field}.rope_type default, linear, llama3 or yarn`, describeJson(type));
  }
}

/** What YaRN's authors multiply cosines and sines by. */
function defaultAttentionFactor(factor: number): number {
  return factor <= 1 ? 1 : 0.1 * naturalLog(factor) + 1;
}

/**
 * Angles are positions divided by it. A factor below 1 makes them larger, up to where cosines and sines are still
 * right.
 */
function readFactor(path: string, field: string, factor: number, maxPositions: number): number {
  if (factor >= 1 || maxPositions / factor < LARGEST_ANGLE) return factor;
  throw new ModelError(
    path,
    `${field}.factor that keeps ${maxPositions} positions / factor below 2^31`,
    String(factor),
  );
}

const LARGEST_ANGLE = 2 ** 31;

function readTruncate(path: string, field: string, json: JsonObject): boolean {
  const truncate = Object.hasOwn(json, "truncate") ? json.truncate : true;
  if (typeof truncate === "boolean") return truncate;
  throw new ModelError(path, `${field}.truncate to be true or false`, describeJson(truncate));
}

/** Scores are multiplied by it twice, once with queries and once with keys: its square must be a number of f32 too. */
function readAttentionFactor(path: string, field: string, factor: number): number {
  const square = Math.fround(factor * factor);
  if (square > 0 && Number.isFinite(square)) return factor;
  throw new ModelError(path, `${field}.attention_factor whose square is a positive number in f32`, String(factor));
}

/** How long a text a scaled model is made for. */
export function scaledPositions(maxPositions: number, scaling: RopeScaling | undefined): number {
  if (scaling?.type === "linear") return Math.floor(maxPositions * scaling.factor);
  if (scaling?.type !== "yarn") return maxPositions;
  return Math.max(maxPositions, Math.floor(scaling.originalPositions * scaling.factor));
}

/** Turn per position of each pair of a head's dimensions, and what cosines and sines are multiplied by. */
export interface RopeTurns {
  readonly frequencies: Float32Array;
  readonly amplitude: number;
}

/** The turns of a model's rotary embedding; `theta` is its base, `half` half its head dim. */
export function ropeTurns(theta: number, half: number, scaling: RopeScaling | undefined): RopeTurns {
  const plain = inverseFrequencies(theta, half);
  switch (scaling?.type) {
    case undefined:
      return { frequencies: plain, amplitude: 1 };
    case "linear":
      return { frequencies: plain.map((frequency) => frequency / scaling.factor), amplitude: 1 };
    case "llama3": {
      const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalPositions } = scaling;
      const frequencies = plain.map((frequency) => {
        const turns = (originalPositions * frequency) / (2 * Math.PI);
        const kept = Math.min(1, Math.max(0, (turns - low) / (high - low)));
        return (1 - kept) * (frequency / factor) + kept * frequency;
      });
      return { frequencies, amplitude: 1 };
    }
    case "yarn": {
      const { factor, attentionFactor } = scaling;
      const [first, last] = yarnRamp(theta, half, scaling);
      const frequencies = plain.map((frequency, index) => {
        const scaled = Math.min(1, Math.max(0, (index - first) / (last - first)));
        return (frequency / factor) * scaled + frequency * (1 - scaled);
      });
      return { frequencies, amplitude: attentionFactor };
    }
  }
}

/** Pairs of dimensions between which YaRN goes over from unscaled to scaled angles. */
function yarnRamp(
  theta: number,
  half: number,
  scaling: RopeScaling & { readonly type: "yarn" },
): readonly [number, number] {
  const pairWithTurns = (turns: number): number =>
    (half * naturalLog(scaling.originalPositions / (turns * 2 * Math.PI))) / naturalLog(theta);
  let [first, last] = [pairWithTurns(scaling.betaFast), pairWithTurns(scaling.betaSlow)];
  if (scaling.truncate) [first, last] = [Math.floor(first), Math.ceil(last)];
  first = Math.max(first, 0);
  last = Math.min(last, 2 * half - 1);
  return [first, first === last ? last + 0.001 : last];
}
