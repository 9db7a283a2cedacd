import { fileURLToPath } from "node:url";
import { readExpectations } from "@lockstep/demo/expectations";
import { Generator, openModel } from "@lockstep/language-model";
import { printTable } from "./print-table.ts";

const demoFile = (path: string): string => fileURLToPath(new URL(`../apps/demo/${path}`, import.meta.url));
/** Runs of each, in turn; the best counts. */
const RUNS = 2;
const MODES = ["rank-order", "world-invariant"] as const;

/**
 * Tokens per second of the demo model with logits that depend on the number of ranks, and with such that do not, in
 * turn; a short and a long context. Tokens are compared with the ones another implementation generated.
 */
export async function benchWorldInvariantText(): Promise<void> {
  const model = openModel(demoFile("model"));
  const expectations = readExpectations(demoFile("goldens/greedy_public.json"), model.config.vocabularySize);
  const texts = [expectations[0], expectations.find(({ promptIds }) => promptIds.length > 1000)];
  console.log("\nThe demo model on the wasm backend, world-invariant beside plain, tokens checked");
  const rows: string[][] = [];
  for (const entry of texts) {
    if (entry === undefined) throw new Error("the expectations need a short and a long prompt");
    const { promptIds, greedyIds } = entry;
    const capacity = promptIds.length + greedyIds.length;
    for (const world of [1, 2]) {
      const most = { "rank-order": 0, "world-invariant": 0 };
      const prompt = { "rank-order": 0, "world-invariant": 0 };
      for (let run = 0; run < RUNS; run++) {
        for (const deterministic of MODES) {
          await using generator = await Generator.open(model, { world, backend: "wasm", capacity, deterministic });
          const started = performance.now();
          let first = started;
          const tokens: number[] = [];
          for await (const token of generator.generate(promptIds, { maxTokens: greedyIds.length })) {
            if (tokens.length === 0) first = performance.now();
            tokens.push(token);
          }
          if (tokens.join() !== greedyIds.join()) throw new Error(`${deterministic}, world ${world}: wrong tokens`);
          const rate = ((tokens.length - 1) * 1000) / (performance.now() - first);
          most[deterministic] = Math.max(most[deterministic], rate);
          prompt[deterministic] = Math.max(prompt[deterministic], (promptIds.length * 1000) / (first - started));
        }
      }
      const figures = (rates: typeof most): string[] => [
        ...MODES.map((mode) => rates[mode].toFixed(0)),
        (rates["rank-order"] / rates["world-invariant"]).toFixed(2),
      ];
      rows.push([`${world}`, `${promptIds.length}`, ...figures(most), ...figures(prompt)]);
    }
  }
  const header = ["ranks", "prompt tokens", "tokens/s", "invariant", "times as long", "prompt tokens/s", "invariant"];
  printTable([...header, "times as long"], rows);
}
