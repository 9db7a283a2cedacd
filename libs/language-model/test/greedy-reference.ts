// What Hugging Face transformers generates greedily with the model that comes with the demo.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** A prompt, its token ids, and those that follow. */
export interface GreedyText {
  readonly prompt: string;
  readonly promptIds: readonly number[];
  readonly greedyIds: readonly number[];
}

interface StoredText {
  readonly prompt: string;
  readonly prompt_ids: readonly number[];
  readonly greedy_ids: readonly number[];
  readonly first_top5: readonly (readonly [id: number, logProbability: number])[];
}

const FILE = fileURLToPath(new URL("../../../apps/demo/goldens/greedy_public.json", import.meta.url));
const stored: readonly StoredText[] = JSON.parse(readFileSync(FILE, "utf8"));

/** Three short prompts, one of 1115 tokens, one of 4286; 96 tokens each. */
export const greedy: readonly GreedyText[] = stored.map(({ prompt, prompt_ids, greedy_ids }) => ({
  prompt,
  promptIds: prompt_ids,
  greedyIds: greedy_ids,
}));

/** Token id and log-probability of the five best first tokens of an entry. */
export function firstTop5(entry: number): StoredText["first_top5"] {
  return stored[entry]?.first_top5 ?? [];
}
