// What the clients ask for: beginnings of all lengths out of the demo's prompts, each another.
import { fileURLToPath } from "node:url";
import { readExpectations } from "@lockstep/demo/expectations";
import { RandomStream } from "../../tests/random.ts";
import type { Ask } from "./load.ts";

const GOLDENS = fileURLToPath(new URL("../../apps/demo/goldens/greedy_public.json", import.meta.url));
const VOCABULARY = 4096;
const [SHORTEST, LONGEST] = [8, 60];

/** So many texts to ask for, the same for a seed; a part of them, `cancelled`, is left in the middle. */
export function makeAsks(count: number, maxTokens: number, cancelled: number, seed: number): Ask[] {
  const random = new RandomStream(seed);
  const texts = readExpectations(GOLDENS, VOCABULARY)
    .map(({ promptIds }) => promptIds)
    .filter((ids) => ids.length >= LONGEST);
  return Array.from({ length: count }, (_, index) => {
    const text = texts[random.below(texts.length)] ?? [];
    const length = SHORTEST + random.below(LONGEST - SHORTEST + 1);
    const start = random.below(text.length - length + 1);
    const isCancelled = random.next() < cancelled;
    return {
      prompt: text.slice(start, start + length),
      maxTokens,
      temperature: index % 2 === 0 ? 0 : 0.8,
      seed: index,
      leaveAfter: isCancelled ? 1 + random.below(maxTokens / 2) : undefined,
    };
  });
}
