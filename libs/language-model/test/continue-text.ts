// Continues a text on two ranks, in Bun or in Deno; prints its tokens as JSON.
import { Generator } from "../src/generation/generator.ts";
import { greedy, model } from "./shipped-model.ts";

await using generator = await Generator.open(model, { world: 2, backend: "wasm", capacity: 64 });
const tokens: number[] = [];
for await (const token of generator.generate(greedy[0]?.promptIds ?? [], { maxTokens: 32 })) tokens.push(token);
console.log(JSON.stringify(tokens));
