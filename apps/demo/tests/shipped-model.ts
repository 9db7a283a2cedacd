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
export const mediumPrompt = greedy.filter((entry) => entry.promptIds.length === 1115);
export const longPrompt = greedy.slice(-1);

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
  await using generator = await Generator.open(model, { ...options, capacity: capacityFor(entries, count) });
  const found: number[][] = [];
  for (const { promptIds } of entries) found.push(await continuation(generator, promptIds, count));
  return differing(entries, found, count);
}

/** As {@link differences}, but all entries are continued at once. */
export async function differencesTogether(
  options: Omit<GeneratorOptions, "capacity" | "texts">,
  entries: readonly Expectation[],
  count: number,
): Promise<string[]> {
  const room = { texts: entries.length, capacity: capacityFor(entries, count) };
  await using generator = await Generator.open(model, { ...options, ...room });
  const found: number[][] = entries.map(() => []);
  const prompts = entries.map(({ promptIds }) => promptIds);
  for await (const { text, token } of generator.generateAll(prompts, { maxTokens: count })) found[text]?.push(token);
  return differing(entries, found, count);
}

function capacityFor(entries: readonly Expectation[], count: number): number {
  return Math.max(...entries.map((entry) => entry.promptIds.length)) + count;
}

function differing(entries: readonly Expectation[], found: readonly (readonly number[])[], count: number): string[] {
  return entries.flatMap(({ prompt, greedyIds }, index) => {
    const [tokens, wanted] = [found[index]?.join(), greedyIds.slice(0, count).join()];
    return tokens === wanted ? [] : [`${prompt.slice(0, 20)}: ${tokens} for ${wanted}`];
  });
}
