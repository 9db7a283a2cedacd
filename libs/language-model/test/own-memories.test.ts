// The memories in which weights and caches lie change no bit of what is computed.
import { expect, setDefaultTimeout, test } from "bun:test";
import { openWorld } from "@lockstep/dist-groups";
import { Generator } from "../src/generation/generator.ts";
import type { GeneratorOptions, SizedOptions } from "../src/generation/generator-options.ts";
import { planOptions, resolveOptions } from "../src/generation/resolve-options.ts";
import type { MemoryLayout } from "../src/generation/memory-plan.ts";
import { continuation, model, shortPrompts } from "./shipped-model.ts";

setDefaultTimeout(120_000);

const TOKENS = 12;
/** Bytes of keys and values of a token: 2 heads of 64 in 8 layers, in f32. */
const TOKEN_BYTES = 2 * 8 * 2 * 64 * 4;
const [first] = shortPrompts;
if (first === undefined) throw new Error("no prompt");
const prompt = first.promptIds;

/** Tokens, and the logits of the last, of a world that has room for so many texts of so many tokens. */
async function generated(options: GeneratorOptions): Promise<{ tokens: number[]; logits: Float32Array }> {
  await using generator = await Generator.open(model, options);
  const tokens = await continuation(generator, prompt, TOKENS);
  return { tokens, logits: await generator.logits() };
}

/** Room that is not touched costs nothing: it only decides the layout. */
function roomFor(options: Omit<SizedOptions, "capacity">, isWanted: (layout: MemoryLayout) => boolean) {
  for (let texts = 1; texts < 1024; texts++) {
    for (let capacity = 16384; capacity > 12288; capacity -= 128) {
      const tried = { ...options, texts, capacity };
      const { problem, layout, ranks } = planOptions(model, tried).plan;
      if (problem === undefined && isWanted(layout)) return tried;
      // Far from the limits of a memory, a few tokens less change nothing.
      if ((ranks[0]?.kvCache ?? 0) < 0.7 * 2 ** 32) break;
    }
  }
  throw new Error("no room has this layout");
}

for (const [name, more, worlds] of [
  ["by gathered queries", {}, [1, 2, 3, 4]],
  ["by prefill chunks", { prefillChunk: 8 }, [2, 3]],
  ["with KV in int8", { kvDtype: "i8" }, [1, 4]],
] as const) {
  for (const world of worlds) {
    const options = { world, dcp: world, backend: "wasm", combine: "one-shot" } as const;
    test(`${world} ranks, ${name}: the same bits in one memory, in one of each rank's, and in two`, async () => {
      const spread = { ...options, ...more };
      const shared = await generated({ ...spread, capacity: 64 });
      const own = roomFor(spread, ({ ownBytes, cacheBytes }) => ownBytes > 0 && cacheBytes === 0);
      expect(await generated(own)).toEqual(shared);
      const two = roomFor(spread, ({ cacheBytes }) => cacheBytes > 0);
      expect(await generated(two)).toEqual(shared);
      if (name === "by gathered queries") {
        expect(shared.tokens).toEqual(first?.greedyIds.slice(0, TOKENS) ?? []);
        expect(own.texts * own.capacity * TOKEN_BYTES).toBeGreaterThan(2 ** 32 * 0.9);
      }
    });
  }
}

test("other combines too", async () => {
  for (const combine of ["ag-rs", "a2a"] as const) {
    const spread = { world: 4, dcp: 2, backend: "wasm", combine } as const;
    const shared = await generated({ ...spread, capacity: 64 });
    const two = roomFor(spread, ({ cacheBytes }) => cacheBytes > 0);
    expect(await generated(two)).toEqual(shared);
  }
});

test("ranks that were planned for a GPU, and find none that they can use, have room for the KV cache", async () => {
  const size = 2;
  const { rank, heapBytesPerRank } = resolveOptions(model, { world: size, dcp: size, capacity: 16384, texts: 4 }, 1);
  await using world = await openWorld<typeof import("../src/generation/rank-program.ts")>({
    size,
    program: new URL("../src/generation/rank-program.ts", import.meta.url),
    options: rank,
    heapBytesPerRank,
    groups: { dcp: [[0, 1]], gpu: [[0, 1]] },
    deadlineMs: 100_000,
  });
  const tokens: number[] = [];
  for (let ids = prompt; tokens.length < 3; ids = tokens.slice(-1)) {
    const [token = -1] = await world.call("step", [ids, false]);
    tokens.push(token);
  }
  expect(tokens).toEqual(first.greedyIds.slice(0, 3));
});

test("a world that is closed gives its memories back", async () => {
  const two = roomFor({ world: 2, backend: "wasm" }, ({ cacheBytes }) => cacheBytes > 0);
  const used: number[] = [];
  for (let round = 0; round < 4; round++) {
    await generated(two);
    Bun.gc(true);
    used.push(process.memoryUsage.rss());
  }
  // Weights and activations of a round take more than this.
  expect((used.at(-1) ?? 0) - (used[0] ?? 0)).toBeLessThan(2 ** 27);
});
