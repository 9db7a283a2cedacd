// What the bench has both sides continue: texts of the demo, or random tokens for a checkpoint of random weights.
import { fileURLToPath } from "node:url";
import { readExpectations } from "@lockstep/demo/expectations";
import type { ModelConfig } from "@lockstep/language-model";
import { RandomStream } from "../../tests/random.ts";

const demoFile = (path: string): string => fileURLToPath(new URL(`../../apps/demo/${path}`, import.meta.url));

/** The demo's own checkpoint. */
export const DEMO_MODEL = demoFile("model");

/** A prompt, and where another implementation continued it, how. */
export interface Prompt {
  readonly ids: readonly number[];
  readonly expected?: readonly number[];
}

export interface Prompts {
  readonly short: Prompt;
  readonly medium: Prompt;
  readonly long: Prompt;
  /** All whose continuation is known. */
  readonly known: readonly Required<Prompt>[];
}

const MEDIUM = 1115;
const LONG = 5900;

/** The demo's prompts, with the tokens that Hugging Face transformers made of them. The longest one is repeated. */
export function demoPrompts({ vocabularySize }: ModelConfig): Prompts {
  const known = readExpectations(demoFile("goldens/greedy_public.json"), vocabularySize).map(
    ({ promptIds, greedyIds }) => ({ ids: promptIds, expected: greedyIds }),
  );
  const [short] = known;
  const medium = known.find(({ ids }) => ids.length === MEDIUM);
  const text = known.map(({ ids }) => ids).reduce((longest, ids) => (ids.length > longest.length ? ids : longest), []);
  if (short === undefined || medium === undefined) {
    throw new Error(`expected a prompt of ${MEDIUM} tokens in the demo's goldens, but there is none`);
  }
  const long = Array.from({ length: LONG }, (_, at) => text[at % text.length] ?? 0);
  return { short, medium, long: { ids: long }, known };
}

/** Random tokens. */
export function randomPrompts({ vocabularySize }: ModelConfig): Prompts {
  const random = new RandomStream(14);
  const prompt = (length: number): Prompt => ({
    ids: Array.from({ length }, () => random.below(vocabularySize)),
  });
  return { short: prompt(7), medium: prompt(MEDIUM), long: prompt(LONG), known: [] };
}
