// The KV cache is really sharded: nobody holds more than its share, and nobody's share can be missed.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Generator } from "../src/generation/generator.ts";
import { continuation, greedy, model } from "./shipped-model.ts";

setDefaultTimeout(120_000);

const LAYOUTS = [
  { world: 1, dcp: 1, kvHeads: "replicated" },
  { world: 2, dcp: 2, kvHeads: "replicated" },
  { world: 4, dcp: 4, kvHeads: "replicated" },
  { world: 4, dcp: 2, kvHeads: "sharded" },
  { world: 8, dcp: 8, kvHeads: "replicated" },
  { world: 8, dcp: 4, kvHeads: "sharded" },
] as const;
const { promptIds, greedyIds } = greedy[1] ?? expect.unreachable();

describe.each(LAYOUTS)("TP$world DCP$dcp, KV heads $kvHeads", ({ world, dcp, kvHeads }) => {
  test.each([
    [1, 16],
    [4, 4],
  ])(
    "no rank holds more than its share plus one block (interleave %d, blocks of %d)",
    async (interleave, blockSize) => {
      const capacity = promptIds.length + 34;
      const options = { world, dcp, kvHeads, interleave, blockSize, backend: "wasm", capacity } as const;
      await using generator = await Generator.open(model, options);
      await continuation(generator, promptIds, 30);
      // The last token generated was not fed back.
      const stored = promptIds.length + 29;
      const share = Math.ceil(stored / dcp);
      const heads = kvHeads === "sharded" ? 1 : model.config.kvHeads;
      const tokenBytes = 2 * model.config.layers * heads * model.config.headDim * 4;
      const ranks = await generator.metrics();
      for (let group = 0; group < world; group += dcp) {
        const held = ranks.slice(group, group + dcp).map(({ attention }) => attention.tokensHeld);
        expect(held.reduce((sum, tokens) => sum + tokens, 0)).toBe(stored);
        expect(Math.max(...held) - Math.min(...held)).toBeLessThanOrEqual(interleave);
      }
      for (const { attention } of ranks) {
        expect(attention.tokensHeld).toBeLessThanOrEqual(share + blockSize);
        expect(attention.bytesHeld).toBeGreaterThanOrEqual(attention.tokensHeld * tokenBytes);
        expect(attention.bytesHeld).toBeLessThanOrEqual((share + blockSize) * tokenBytes);
      }
      // Nor could it: no rank has room for more.
      expect(generator.blocksPerRank * blockSize).toBeLessThanOrEqual(Math.ceil(capacity / dcp) + blockSize);
    },
  );

  test("keeping any one rank's shard at zero changes the text", async () => {
    const options = { world, dcp, kvHeads, backend: "wasm", capacity: promptIds.length + 12 } as const;
    await using generator = await Generator.open(model, options);
    const wanted = greedyIds.slice(0, 12);
    expect(await continuation(generator, promptIds, 12)).toEqual(wanted);
    for (let rank = 0; rank < world; rank++) {
      const tokens = [await generator.prefill(promptIds)];
      while (tokens.length < 12) {
        await generator.eraseCache(rank);
        tokens.push(await generator.step([tokens.at(-1) ?? 0]));
      }
      expect(tokens).not.toEqual(wanted);
    }
    expect(await continuation(generator, promptIds, 12)).toEqual(wanted);
  });
});
