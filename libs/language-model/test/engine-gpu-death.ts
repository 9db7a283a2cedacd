// A program whose engine's rank dies of an error while the GPU computes. Says what became of the requests, and goes on.
import { Engine } from "../src/engine/engine.ts";
import { greedy, model } from "./shipped-model.ts";

const [first] = greedy;
if (first === undefined) throw new Error("no prompt");
const worker = new URL("./losing-rank.ts", import.meta.url);
const options = { backend: "webgpu", softwareVulkan: true, maxContext: 128, world: 2, sharedGpu: true } as const;
await using engine = await Engine.open(model, { ...options, worker });

async function outcome(prompt: readonly number[], maxTokens: number): Promise<string> {
  try {
    let text = "";
    for await (const part of engine.generate(prompt, { maxTokens, ignoreEnd: true })) text += part.text;
    return text;
  } catch (error) {
    return String(error);
  }
}

const underWay = outcome(first.promptIds, 110);
while (engine.status().totals.generatedTokens === 0) await Bun.sleep(5);
const outcomes = await Promise.all([underWay, outcome([8, 8], 5)]);
outcomes.push(await outcome(first.promptIds, 4));
console.log(JSON.stringify(outcomes));
