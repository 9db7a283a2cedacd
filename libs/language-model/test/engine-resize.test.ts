// An engine that gets more ranks, and fewer, while it generates: requests go on with the tokens of an undisturbed run.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { ResourceClosed } from "@lockstep/tensor";
import { Engine } from "../src/engine/engine.ts";
import type { GeneratedPart, RequestOptions } from "../src/engine/request-options.ts";
import { greedy, model } from "./shipped-model.ts";
import { outcomeOf } from "../../../tests/outcome-of.ts";

setDefaultTimeout(180_000);

const options = { world: 2, dcp: 2, backend: "wasm", maxContext: 256, blockSize: 4, kvTokens: 1024 } as const;
const { promptIds, greedyIds } = greedy[0] ?? expect.unreachable();

/** Requests that go on long enough to be moved twice. */
const REQUESTS: readonly RequestOptions[] = [
  { maxTokens: 60, temperature: 0, ignoreEnd: true },
  { maxTokens: 60, temperature: 0.9, seed: 11, ignoreEnd: true },
  { maxTokens: 50, temperature: 0.7, topP: 0.9, seed: 5, ignoreEnd: true },
];

/** Their tokens; `at` is told how many the first one has. */
async function tokensOf(engine: Engine, at: (tokens: number) => void = () => {}): Promise<number[][]> {
  const collect = async (parts: AsyncIterable<GeneratedPart>, told: (tokens: number) => void): Promise<number[]> => {
    const ids: number[] = [];
    for await (const part of parts) {
      ids.push(...part.tokens.map(({ id }) => id));
      told(ids.length);
    }
    return ids;
  };
  return await Promise.all(
    REQUESTS.map((request, index) => collect(engine.generate(promptIds, request), index === 0 ? at : () => {})),
  );
}

const leftFolders = (): number => readdirSync(tmpdir()).filter((name) => name.startsWith("lockstep-resize-")).length;

async function undisturbed(): Promise<number[][]> {
  await using engine = await Engine.open(model, options);
  return await tokensOf(engine);
}

const expected = await undisturbed();

describe("ranks come and go in the middle of texts", () => {
  test("from 2 to 4 and back to 2, with the tokens of an undisturbed run", async () => {
    const before = leftFolders();
    await using engine = await Engine.open(model, options);
    const resized: Promise<void>[] = [];
    const sizes: number[] = [];
    const found = await tokensOf(engine, (tokens) => {
      if (tokens >= 8 && resized.length === 0) {
        resized.push(engine.resize({ world: 4, dcp: 4, interleave: 2 }).then(() => void sizes.push(engine.ranks)));
      }
      if (tokens >= 25 && resized.length === 1 && sizes.length === 1) {
        resized.push(engine.resize({ world: 2, dcp: 2, interleave: 1 }).then(() => void sizes.push(engine.ranks)));
      }
    });
    await Promise.all(resized);
    expect(sizes).toEqual([4, 2]);
    expect(found).toEqual(expected);
    expect(found[0]?.slice(0, 30)).toEqual(greedyIds.slice(0, 30));
    expect(leftFolders()).toBe(before);
    const { totals } = engine.status();
    expect(totals).toMatchObject({ finished: REQUESTS.length, failed: 0, restarts: 0 });
    expect(totals.generatedTokens).toBe(170);
  });

  test("what is known of texts comes along, and is not computed again", async () => {
    await using engine = await Engine.open(model, options);
    const [first = []] = await tokensOf(engine);
    const prompt = [...promptIds, ...first];
    await engine.resize({ world: 4, dcp: 4, blockSize: 3 });
    expect(engine.status().blocks.cached).toBeGreaterThan(0);
    let usage: GeneratedPart["usage"];
    for await (const part of engine.generate(prompt, { maxTokens: 1 })) usage = part.usage ?? usage;
    // All but the last token are stored: in full blocks of 8 tokens before, of 12 now.
    const stored = Math.floor((prompt.length - 1) / 8) * 8;
    expect(usage?.cachedTokens).toBe(Math.floor(stored / 12) * 12);
    // What is left out stays as it was made last.
    await engine.resize({ interleave: 3 });
    expect(engine.sizes).toMatchObject({ world: 4, dcp: 4 });
    expect(engine.status().blockTokens).toBe(12);
  });

  test("without a prefix cache, and to shares of any size", async () => {
    await using engine = await Engine.open(model, { ...options, prefixCache: false });
    let resized: Promise<void> | undefined;
    const found = await tokensOf(engine, (tokens) => {
      if (tokens >= 10) resized ??= engine.resize({ world: 3, dcp: 3, kvWeights: [2, 1, 1] });
    });
    await resized;
    expect(engine.ranks).toBe(3);
    expect(found).toEqual(expected);
  });

  test("what cannot be changes nothing", async () => {
    await using engine = await Engine.open(model, options);
    let refused: Promise<() => unknown> | undefined;
    const found = await tokensOf(engine, (tokens) => {
      if (tokens >= 5) refused ??= outcomeOf(engine.resize({ world: 2, dcp: 2, blockSize: 4, interleave: 3 }));
    });
    expect(await refused).toThrow("interleave");
    expect(found).toEqual(expected);
    expect(engine.sizes).toMatchObject({ world: 2, dcp: 2 });
    await engine.close();
    expect(await outcomeOf(engine.resize({ world: 1 }))).toThrow(ResourceClosed);
  });
});
