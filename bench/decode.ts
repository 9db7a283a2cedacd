import { fileURLToPath } from "node:url";
import { readExpectations } from "@lockstep/demo/expectations";
import { Generator, openModel } from "@lockstep/language-model";
import { printTable } from "./print-table.ts";

const demoFile = (path: string): string => fileURLToPath(new URL(`../apps/demo/${path}`, import.meta.url));

/**
 * Decode steps per second and prefill time of the demo model on 1, 2 and 4 ranks. Tokens are compared with the ones
 * another implementation generated.
 */
export async function benchDecode(): Promise<void> {
  const model = openModel(demoFile("model"));
  const expectations = readExpectations(demoFile("goldens/greedy_public.json"), model.config.vocabularySize);
  const short = expectations[0];
  const long = expectations.find(({ promptIds }) => promptIds.length > 1000);
  if (short === undefined || long === undefined) throw new Error("the expectations need a short and a long prompt");
  console.log(
    `\nThe demo model on the wasm backend, tokens checked; the long prompt has ${long.promptIds.length} tokens`,
  );
  const rows: string[][] = [];
  let single = Number.NaN;
  for (const world of [1, 2, 4]) {
    await using generator = await Generator.open(model, {
      world,
      backend: "wasm",
      capacity: long.promptIds.length + long.greedyIds.length,
    });
    const timed = async (entry: typeof short): Promise<{ prefillSeconds: number; stepsPerSecond: number }> => {
      const started = performance.now();
      let first = started;
      const tokens: number[] = [];
      for await (const token of generator.generate(entry.promptIds, { maxTokens: entry.greedyIds.length })) {
        if (tokens.length === 0) first = performance.now();
        tokens.push(token);
      }
      if (tokens.join() !== entry.greedyIds.join()) throw new Error(`world ${world}: wrong tokens`);
      const stepsPerSecond = ((tokens.length - 1) * 1000) / (performance.now() - first);
      return { prefillSeconds: (first - started) / 1000, stepsPerSecond };
    };
    await timed(short);
    const shortRun = await timed(short);
    const longRun = await timed(long);
    if (world === 1) single = shortRun.stepsPerSecond;
    rows.push([
      `${world} ${world === 1 ? "rank" : "ranks"}`,
      shortRun.stepsPerSecond.toFixed(0),
      (shortRun.stepsPerSecond / single).toFixed(2),
      longRun.stepsPerSecond.toFixed(0),
      `${longRun.prefillSeconds.toFixed(2)} s`,
    ]);
  }
  printTable(["world", "steps/s", "of one rank", "steps/s, long", "prefill, long"], rows);
}
