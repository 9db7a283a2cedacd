// Options of generators that no model takes are refused here, and samples of static scales are cut.
import { ArgumentError, describe } from "@lockstep/tensor";
import { UnfitOptions } from "../errors.ts";
import type { Model } from "../model/model.ts";
import type { GeneratorOptions } from "./generator-options.ts";
import { isQuantisedKv } from "./kv-calibration.ts";
import { checkTokenIds } from "./token-ids.ts";

const NAME = "Generator.open";
/** Tokens of the sample that decides the scales of a quantised KV cache. */
const CALIBRATION_TOKENS = 256;
const MOST = 2 ** 31 - 1;
/** Tokens of a block on one rank. */
const MOST_BLOCK_SIZE = 2 ** 20;

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
  deterministic: ["rank-order", "world-invariant"],
  kvDtype: ["f32", "f16", "bf16", "f8e4m3", "i8"],
  weights: ["stored", "i8"],
} as const;

/** Throws ArgumentError unless this is a model that `openModel` returned. */
export function checkModel(model: Model): void {
  const isObject = (part: unknown): boolean => typeof part === "object" && part !== null;
  const isModel = isObject(model) && (typeof model.source === "string" || isObject(model.source));
  if (isModel && isObject(model.config) && isObject(model.storedDTypes)) return;
  throw new ArgumentError(NAME, "model", "what openModel returned", describe(model));
}

/** Throws ArgumentError unless the options of `operation` are an object. */
export function checkOptionsObject(operation: string, options: object, expected = "an object"): void {
  if (typeof options === "object" && options !== null) return;
  throw new ArgumentError(operation, "options", expected, describe(options));
}

/** Throws ArgumentError for a value that no model takes. A `world` of "auto" has been chosen before. */
export function checkValues(options: GeneratorOptions): void {
  checkOptionsObject(NAME, options, "an object with world");
  for (const [name, least] of Object.entries(LEAST)) {
    const value: unknown = options[name as keyof typeof LEAST];
    if (value === undefined && !REQUIRED.includes(name)) continue;
    if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= MOST) continue;
    const expected = `an integer from ${least} to ${MOST}`;
    throw new ArgumentError(
      NAME,
      name,
      name === "world" ? `${expected}, or chosen by "auto"` : expected,
      describe(value),
    );
  }
  if (options.kvWeights !== undefined) {
    const { kvWeights, blockSize = 16 } = options;
    checkShares("kvWeights", kvWeights, 2 ** 16);
    const most = Math.floor(MOST_BLOCK_SIZE / blockSize);
    if (Math.max(...kvWeights) > most) {
      const expected = `at most ${most} each with a blockSize of ${blockSize}`;
      throw new ArgumentError(NAME, "kvWeights", expected, `${Math.max(...kvWeights)}`);
    }
  }
  if (options.kvBytes !== undefined) checkShares("kvBytes", options.kvBytes, 2 ** 50);
  for (const name of ["softwareVulkan", "sharedGpu", "batchInvariant"] as const) {
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
  if (options.deterministic === "world-invariant") checkWorldInvariant(options);
}

/** Throws UnfitOptions for what would make bits depend on how a model is spread, or on what is computed beside a text. */
function checkWorldInvariant({ combine, batchInvariant }: GeneratorOptions): void {
  const mode = "`deterministic` world-invariant";
  if (combine === "one-shot") {
    throw new UnfitOptions(`${mode} goes with \`combine\` a2a, ag-rs or auto, but is given one-shot.`);
  }
  if (batchInvariant === false) {
    throw new UnfitOptions(`${mode} needs \`batchInvariant\`, which is false: leave it out.`);
  }
}

/** Throws ArgumentError unless these are whole numbers up to `most` together, one at least, and not all of them 0. */
function checkShares(name: string, shares: readonly number[], most: number): void {
  const isShare = (share: unknown): boolean => typeof share === "number" && Number.isInteger(share) && share >= 0;
  const sum = Array.isArray(shares) && shares.every(isShare) ? shares.reduce((total, share) => total + share, 0) : 0;
  if (sum >= 1 && sum <= most) return;
  const expected = `a list of non-negative integers, one for each rank of a DCP group, whose sum is from 1 to ${most}`;
  throw new ArgumentError(NAME, name, expected, Array.isArray(shares) ? `[${shares.join(", ")}]` : describe(shares));
}

/**
 * The sample that decides static scales of a quantised KV cache; empty for other caches.
 * @throws ArgumentError for tokens that the model does not have, and scales that the cache does not have; UnfitOptions
 *   for static scales without a sample
 */
export function calibrationOf(
  { kvDtype = "f32", kvScales, calibration = [] }: GeneratorOptions,
  vocabularySize: number,
): readonly number[] {
  checkTokenIds(NAME, "calibration", calibration, vocabularySize);
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
