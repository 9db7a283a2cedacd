// What to change when a model does not fit.
import type { WeightKind } from "../layers/weight.ts";
import type { ModelConfig } from "../model/config.ts";
import { isQuantisedKv, type KvDtype } from "./kv-calibration.ts";
import type { RankMemoryPlan } from "./memory-plan.ts";

/** Most ranks that are proposed. */
const MOST_RANKS = 64;
/** Ways that are named, the mildest first. */
const MOST_NAMED = 3;
/** Tokens of a step, or of a chunk, that are proposed where they take too much. */
const FEW_TOKENS = 256;

/** The options that decide how much memory a model takes. */
interface MemoryOptions {
  readonly world: number;
  readonly kvDtype?: KvDtype;
  readonly weights?: WeightKind;
  readonly capacity?: number;
  readonly prefillChunk?: number;
  readonly maxStepTokens?: number;
  readonly texts?: number;
}

/** The most tokens of a text, up to `most`, whose plan has no problem; undefined when not even one fits. */
export function largestContext(most: number, planOf: (tokens: number) => RankMemoryPlan): number | undefined {
  const fits = (tokens: number): boolean => planOf(tokens).problem === undefined;
  if (!fits(1)) return undefined;
  let low = 1;
  let high = most;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}

/**
 * Says which other options would make a model fit. Names of options stand between backticks.
 * @param contextOf the tokens of a text that fit with options; undefined when they do not fit
 */
export function adviceFor<Options extends MemoryOptions>(
  config: ModelConfig,
  options: Options,
  contextOf: (options: Options) => number | undefined,
): string {
  const ways: string[] = [];
  for (const { words, changed } of changes(config, options)) {
    if (ways.length < MOST_NAMED && contextOf(changed) !== undefined) ways.push(words);
  }
  const { capacity: _, ...withoutCapacity } = options;
  const context = contextOf(withoutCapacity as Options);
  if (context !== undefined) ways.push(`a \`capacity\` of at most ${context}`);
  if (ways.length === 0) return "no option makes it fit: take a smaller model";
  const last = ways.pop();
  return `take ${ways.length === 0 ? last : `${ways.join(", ")} or ${last}`}`;
}

function changes<Options extends MemoryOptions>(
  config: ModelConfig,
  options: Options,
): { readonly words: string; readonly changed: Options }[] {
  const { kvDtype = "f32", weights, world, prefillChunk = 0, maxStepTokens = 0, texts = 1 } = options;
  const found: { words: string; changed: Options }[] = [];
  if (kvDtype === "f32") found.push({ words: "`kvDtype` f16", changed: { ...options, kvDtype: "f16" } });
  if (!isQuantisedKv(kvDtype)) found.push({ words: "`kvDtype` i8", changed: { ...options, kvDtype: "i8" } });
  if (weights !== "i8") found.push({ words: "`weights` i8", changed: { ...options, weights: "i8" } });
  for (let ranks = 2 * world; ranks <= Math.min(MOST_RANKS, config.queryHeads); ranks *= 2) {
    found.push({ words: `\`world\` ${ranks}`, changed: { ...options, world: ranks } });
  }
  for (const [name, tokens] of Object.entries({ prefillChunk, maxStepTokens })) {
    if (tokens <= FEW_TOKENS) continue;
    found.push({ words: `\`${name}\` ${FEW_TOKENS}`, changed: { ...options, [name]: FEW_TOKENS } });
  }
  if (texts > 1) found.push({ words: "fewer texts at a time", changed: { ...options, texts: 1 } });
  return found;
}
