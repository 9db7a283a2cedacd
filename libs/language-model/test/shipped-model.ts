// The model that comes with the demo, and how it is compared with what Hugging Face transformers generates with it.
import { Generator } from "../src/generation/generator.ts";
import type { GeneratorOptions } from "../src/generation/generator-options.ts";
import { openModel } from "../src/model/model.ts";
import { type GreedyText, greedy } from "./greedy-reference.ts";
import { MODEL_FOLDER } from "./shipped-folder.ts";

export { firstTop5, greedy } from "./greedy-reference.ts";
export { MODEL_FOLDER } from "./shipped-folder.ts";

export const model = openModel(MODEL_FOLDER);
export const shortPrompts = greedy.filter((entry) => entry.promptIds.length < 20);
export const mediumPrompt = greedy.filter((entry) => entry.promptIds.length === 1115);
export const longPrompt = greedy.slice(-1);

/** The first `count` tokens that follow a prompt. */
export async function continuation(generator: Generator, prompt: readonly number[], count: number): Promise<number[]> {
  const tokens: number[] = [];
  for await (const token of generator.generate(prompt, { maxTokens: count })) tokens.push(token);
  return tokens;
}

/** Opens a world, and compares the first `count` tokens of entries with the reference. Returns what differs. */
export async function differences(
  options: Omit<GeneratorOptions, "capacity">,
  entries: readonly GreedyText[],
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
  entries: readonly GreedyText[],
  count: number,
): Promise<string[]> {
  const room = { texts: entries.length, capacity: capacityFor(entries, count) };
  await using generator = await Generator.open(model, { ...options, ...room });
  const found: number[][] = entries.map(() => []);
  const prompts = entries.map(({ promptIds }) => promptIds);
  for await (const { text, token } of generator.generateAll(prompts, { maxTokens: count })) found[text]?.push(token);
  return differing(entries, found, count);
}

function capacityFor(entries: readonly GreedyText[], count: number): number {
  return Math.max(...entries.map((entry) => entry.promptIds.length)) + count;
}

function differing(entries: readonly GreedyText[], found: readonly (readonly number[])[], count: number): string[] {
  return entries.flatMap(({ prompt, greedyIds }, index) => {
    const [tokens, wanted] = [found[index]?.join(), greedyIds.slice(0, count).join()];
    return tokens === wanted ? [] : [`${prompt.slice(0, 20)}: ${tokens} for ${wanted}`];
  });
}
