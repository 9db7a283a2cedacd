import { ArgumentError, describe } from "@lockstep/tensor";
import { UnfitOptions } from "../errors.ts";
import { checkModel } from "../generation/check-options.ts";
import { chooseWorld } from "../generation/choose-world.ts";
import type { GeneratorOptions, ServingNeeds, SizedOptions } from "../generation/generator-options.ts";
import { planOptions, type ResolvedOptions, resolveOptions } from "../generation/resolve-options.ts";
import { spreadOptions } from "../generation/world-candidates.ts";
import type { Model } from "../model/model.ts";
import { asEngineError } from "./engine-errors.ts";
import type { EngineOptions } from "./engine-options.ts";

/** Options of an engine, checked, with all that was left out filled in. */
export interface EngineSizes {
  readonly resolved: ResolvedOptions;
  readonly maxContext: number;
  readonly maxRunning: number;
  readonly maxWaiting: number;
  readonly maxRestarts: number;
  /** Whether texts that begin alike share what was computed. */
  readonly sharesPrefixes: boolean;
  /** Where known beginnings are saved. */
  readonly prefixFolder: string | undefined;
  /** Most bytes of each rank's file there. */
  readonly prefixBytes: number;
}

/** Texts as long as may be that the cache is to hold, where nobody says how much; fewer where they do not fit. */
const USUAL_TEXTS = [8, 4, 2, 1];
/** Bytes of saved beginnings of each rank, where nobody says how many: a few seconds, in which nothing is computed. */
const PREFIX_BYTES = 256 << 20;
/** Texts at a time for which the number of ranks is chosen. */
const TRIAL_TEXTS = 8;

/**
 * Checks the options of an engine and fills in what was left out; measures when the number of ranks is "auto".
 * @throws ArgumentError for a value that no model takes; UnfitOptions for what does not fit the model, or memory
 */
export async function resolveEngineOptions(model: Model, options: EngineOptions): Promise<EngineSizes> {
  if (typeof options !== "object" || options === null) {
    throw new ArgumentError("Engine.open", "options", "an object with world", describe(options));
  }
  const {
    maxContext,
    kvTokens,
    maxRunning = 64,
    maxWaiting = 256,
    prefixCache = true,
    maxRestarts = 3,
    prefixFolder,
    prefixBytes = PREFIX_BYTES,
    ...rest
  } = options;
  checkCount("maxContext", maxContext, 2);
  checkCount("kvTokens", kvTokens, 1);
  checkCount("maxRunning", maxRunning, 1, 1024);
  checkCount("maxWaiting", maxWaiting, 0);
  checkCount("maxRestarts", maxRestarts, 0);
  checkCount("prefixBytes", prefixBytes, 1, 2 ** 40);
  if (typeof prefixCache !== "boolean") {
    throw new ArgumentError("Engine.open", "prefixCache", "true or false", describe(prefixCache));
  }
  if (prefixFolder !== undefined && (typeof prefixFolder !== "string" || prefixFolder === "" || !prefixCache)) {
    const expected = prefixCache ? "the path of a folder" : "left out without a prefixCache";
    throw new ArgumentError("Engine.open", "prefixFolder", expected, describe(prefixFolder));
  }
  const capacity = maxContext === undefined ? {} : { capacity: maxContext };
  const needs: ServingNeeds = { drawsTokens: true, prefixCache: true };
  const wanted: GeneratorOptions & ServingNeeds = { ...rest, ...capacity, ...needs, texts: maxRunning };
  const resolved = await resolveGeneratorOptions(model, wanted, kvTokens).catch((error: unknown) => {
    throw asEngineError(error);
  });
  return {
    resolved,
    maxContext: resolved.capacity,
    maxRunning,
    maxWaiting,
    maxRestarts,
    sharesPrefixes: prefixCache,
    prefixFolder,
    prefixBytes,
  };
}

async function resolveGeneratorOptions(
  model: Model,
  options: GeneratorOptions & ServingNeeds,
  kvTokens: number | undefined,
): Promise<ResolvedOptions> {
  checkModel(model);
  const { capacity = 0 } = options;
  const { maxPositions } = model.config;
  if (capacity > maxPositions) {
    const problem = `a text may have ${capacity} tokens, but the model was made for ${maxPositions}`;
    throw new UnfitOptions(`${problem}: take a \`maxContext\` of at most ${maxPositions}.`);
  }
  return resolveFor(model, await withWorld(model, options), kvTokens);
}

/** The same with a number of ranks, chosen by measuring when it is "auto". */
async function withWorld(model: Model, options: GeneratorOptions & ServingNeeds): Promise<SizedOptions & ServingNeeds> {
  const { world, texts = 1 } = options;
  if (world !== "auto") return { ...options, world };
  const choose = (most: number) => chooseWorld(model, { ...options, texts: Math.min(most, texts) });
  const { sizes } = await choose(TRIAL_TEXTS).catch((error: unknown) => {
    // The cache need not hold so many of the longest texts.
    if (error instanceof UnfitOptions) return choose(1);
    throw error;
  });
  return { ...options, ...spreadOptions(options, sizes) };
}

/** The options with a cache of so many tokens; without a number, of the longest texts, as many as fit. */
function resolveFor(model: Model, options: SizedOptions & ServingNeeds, kvTokens: number | undefined): ResolvedOptions {
  // Of one text: what a text may have at most does not depend on how many there are.
  const { capacity, mostKvTokens } = planOptions(model, { ...options, kvTokens: kvTokens ?? 1 });
  // Where the ranks have so much room for it, the cache fills it: what is known of texts stays for longer.
  if (kvTokens === undefined && mostKvTokens !== undefined && mostKvTokens >= capacity) {
    return resolveOptions(model, { ...options, capacity, kvTokens: mostKvTokens });
  }
  if (kvTokens !== undefined) {
    if (options.capacity !== undefined && kvTokens < options.capacity) {
      throw new UnfitOptions(
        `the cache would hold ${kvTokens} tokens, and a text may have ${options.capacity}: ` +
          "take more `kvTokens`, or a smaller `maxContext`.",
      );
    }
    return resolveOptions(model, { ...options, capacity: Math.min(capacity, kvTokens), kvTokens });
  }
  for (const texts of USUAL_TEXTS) {
    const whole = { ...options, capacity, kvTokens: texts * capacity };
    if (texts === 1 || planOptions(model, whole).plan.problem === undefined) return resolveOptions(model, whole);
  }
  throw new Error("one text was not tried");
}

function checkCount(name: string, value: unknown, least: number, most = 2 ** 31 - 1): void {
  if (value === undefined) return;
  if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= most) return;
  throw new ArgumentError("Engine.open", name, `an integer from ${least} to ${most}`, describe(value));
}
