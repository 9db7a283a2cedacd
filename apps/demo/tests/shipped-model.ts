// The model that comes with the demo, and what Hugging Face transformers generates with it.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Expectation, readExpectations } from "../src/expectations.ts";
import { Generator, type GeneratorOptions } from "../src/generator.ts";
import { openModel } from "../src/model.ts";

export const MODEL_FOLDER = fileURLToPath(new URL("../model", import.meta.url));
export const GREEDY_FILE = fileURLToPath(new URL("../goldens/greedy_public.json", import.meta.url));
export const model = openModel(MODEL_FOLDER);
/** Three short prompts, one of 1115 tokens, one of 4286; 96 tokens each. */
export const greedy: readonly Expectation[] = readExpectations(GREEDY_FILE, model.config.vocabularySize);
export const shortPrompts = greedy.filter((entry) => entry.promptIds.length < 20);

/** Token id and log-probability of the five best first tokens of an entry. */
export function firstTop5(entry: number): readonly (readonly [id: number, logProbability: number])[] {
  return JSON.parse(readFileSync(GREEDY_FILE, "utf8"))[entry].first_top5;
}

/** The first `count` tokens that follow a prompt. */
export async function continuation(generator: Generator, prompt: readonly number[], count: number): Promise<number[]> {
  const tokens: number[] = [];
  for await (const token of generator.generate(prompt, { maxTokens: count })) tokens.push(token);
  return tokens;
}

/** Opens a world, and compares the first `count` tokens of entries with the reference. Returns what differs. */
export async function differences(
  options: Omit<GeneratorOptions, "capacity">,
  entries: readonly Expectation[],
  count: number,
): Promise<string[]> {
  const capacity = Math.max(...entries.map((entry) => entry.promptIds.length)) + count;
  await using generator = await Generator.open(model, { ...options, capacity });
  const found: string[] = [];
  for (const { prompt, promptIds, greedyIds } of entries) {
    const tokens = await continuation(generator, promptIds, count);
    const wanted = greedyIds.slice(0, count);
    if (tokens.join() !== wanted.join()) found.push(`${prompt.slice(0, 20)}: ${tokens.join()} for ${wanted.join()}`);
  }
  return found;
}
