// Continues a text on two ranks, in Bun or in Deno; prints its tokens as JSON. Room for 60 long texts, as an argument
// `own` asks for, does not fit the memory that the ranks share: each has one of its own then.
import process from "node:process";
import { Generator } from "../src/generation/generator.ts";
import { greedy, model } from "./shipped-model.ts";

const room = process.argv[2] === "own" ? { texts: 60, capacity: 16_384 } : { capacity: 64 };
await using generator = await Generator.open(model, { world: 2, backend: "wasm", ...room });
const tokens: number[] = [];
for await (const token of generator.generate(greedy[0]?.promptIds ?? [], { maxTokens: 32 })) tokens.push(token);
console.log(JSON.stringify(tokens));
