// What clients ask for: parts of texts, each another, all continued greedily.
import type { ModelConfig } from "@lockstep/language-model";
import { RandomStream } from "../../tests/random.ts";
import { DEMO_MODEL, demoPrompts, randomPrompts } from "../peer/prompts.ts";

/** A prompt, and how many tokens are wanted: so many are made, whatever they are. */
export interface TextRequest {
  readonly prompt: readonly number[];
  readonly maxTokens: number;
}

/** Tokens of the prompts, from the shortest to the longest. */
export const [SHORTEST, LONGEST] = [8, 60];

/** Texts in the model's language: those of the demo, or random tokens for another model. */
export function textsOf(model: string, config: ModelConfig): readonly (readonly number[])[] {
  if (model !== DEMO_MODEL) return [randomPrompts(config).long.ids];
  return demoPrompts(config).known.map(({ ids }) => ids);
}

/** So many requests, the same for a seed: parts of `texts` that are long enough, of all lengths. */
export function makeRequests(
  texts: readonly (readonly number[])[],
  count: number,
  maxTokens: number,
  seed: number,
): TextRequest[] {
  const long = texts.filter(({ length }) => length >= LONGEST);
  if (long.length === 0) throw new Error(`expected a text of at least ${LONGEST} tokens, but there is none`);
  const random = new RandomStream(seed);
  return Array.from({ length: count }, () => {
    const text = long[random.below(long.length)] ?? [];
    const length = SHORTEST + random.below(LONGEST - SHORTEST + 1);
    const start = random.below(text.length - length + 1);
    return { prompt: text.slice(start, start + length), maxTokens };
  });
}
