import process from "node:process";
import { Generator, type GeneratorOptions, type Model } from "@lockstep/language-model";
import { type Expectation, firstDifference } from "./expectations.ts";
import type { Progress } from "./progress.ts";

/**
 * Generates every entry's tokens and prints a line for each; returns whether all agree. The text of a prompt must
 * encode to the ids given, too.
 */
export async function runExpectations(
  model: Model,
  options: Omit<GeneratorOptions, "capacity">,
  expectations: readonly Expectation[],
  progress: Progress,
): Promise<boolean> {
  const capacity = Math.max(...expectations.map((entry) => entry.promptIds.length + entry.greedyIds.length));
  await using generator = await Generator.open(model, { ...options, capacity });
  let agree = true;
  for (const [index, entry] of expectations.entries()) {
    const { promptIds, greedyIds } = entry;
    const name = `${index + 1}/${expectations.length} ${JSON.stringify(entry.prompt.slice(0, 30))}`;
    const started = performance.now();
    const found: number[] = [];
    const onPrefill = (done: number): void => progress.update(`${name}: ${done}/${promptIds.length}`);
    const stream = generator.generate(promptIds, { maxTokens: greedyIds.length, onPrefill });
    for await (const token of stream) found.push(token);
    progress.clear();
    const seconds = ((performance.now() - started) / 1000).toFixed(2);
    const problem =
      firstDifference("prompt token", promptIds, model.tokenizer.encode(entry.prompt)) ??
      firstDifference("token", greedyIds, found);
    const sizes = `${promptIds.length} + ${greedyIds.length} tokens, ${seconds} s`;
    process.stdout.write(`${problem === undefined ? "ok  " : "DIFF"} ${name} ${sizes}${problem ?? ""}\n`);
    agree &&= problem === undefined;
  }
  return agree;
}
