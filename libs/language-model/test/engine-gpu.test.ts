// An engine whose ranks attend on a GPU: what it promises holds there too, and a lost device is like a dead rank.
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Engine } from "../src/engine/engine.ts";
import type { GeneratedPart, GeneratedToken, RequestOptions } from "../src/engine/request-options.ts";
import { RanksFailed } from "../src/errors.ts";
import { greedy, model } from "./shipped-model.ts";

setDefaultTimeout(120_000);

const { promptIds, greedyIds } = greedy[0] ?? expect.unreachable();
const options = { backend: "webgpu", softwareVulkan: true, maxContext: 128, blockSize: 4 } as const;
/** Four requests that begin alike, each unlike the others. */
const requests = Array.from({ length: 4 }, (_, index): { prompt: number[]; wanted: RequestOptions } => ({
  prompt: [...promptIds, ...greedyIds.slice(0, 9), 5 + index, 7],
  wanted: { maxTokens: 2 + index, ignoreEnd: true, temperature: (index % 2) * 0.8, seed: index, logprobs: index % 3 },
}));
const LOSES = [7, 7];

interface Answer {
  readonly text: string;
  readonly tokens: GeneratedToken[];
  readonly cached: number | undefined;
}

async function collect(parts: AsyncIterable<GeneratedPart>): Promise<Answer> {
  const tokens: GeneratedToken[] = [];
  let text = "";
  let cached: number | undefined;
  for await (const part of parts) {
    text += part.text;
    tokens.push(...part.tokens);
    cached = part.usage?.cachedTokens;
  }
  return { text, tokens, cached };
}

const ask = ({ prompt, wanted }: (typeof requests)[number], engine: Engine): Promise<Answer> =>
  collect(engine.generate(prompt, wanted));

async function expectServes(engine: Engine): Promise<void> {
  const { tokens } = await collect(engine.generate(promptIds, { maxTokens: 4 }));
  expect(tokens.map(({ id }) => id)).toEqual(greedyIds.slice(0, 4));
}

/** A request under way that is to fail, and what it fails with. */
async function underWay(engine: Engine): Promise<{ failure: Promise<unknown> }> {
  const request = engine.generate(promptIds, { maxTokens: 110, ignoreEnd: true });
  await request.next();
  return { failure: collect(request).catch((error: unknown) => error) };
}

test.each([
  [1, false],
  [2, true],
])(
  "%p ranks, shared device %p: the same texts alone, beside others, and from saved blocks",
  async (world, sharedGpu) => {
    const spread = { ...options, world, sharedGpu };
    const prefixFolder = mkdtempSync(join(tmpdir(), "lockstep-engine-gpu-"));
    try {
      const alone: Answer[] = [];
      {
        await using engine = await Engine.open(model, { ...spread, prefixCache: false });
        for (const each of requests) alone.push(await ask(each, engine));
      }
      const expected = alone.map(({ text, tokens }) => ({ text, tokens }));
      {
        await using engine = await Engine.open(model, { ...spread, prefixFolder, maxStepTokens: 12 });
        const together = await Promise.all(requests.map((each) => ask(each, engine)));
        expect(together.map(({ text, tokens }) => ({ text, tokens }))).toEqual(expected);
        expect(together.map(({ cached }) => cached).sort((a = 0, b = 0) => a - b)).toEqual([0, 16, 16, 16]);
        expect(engine.status()).toMatchObject({ blocks: { used: 0 }, totals: { finished: 4 } });
        expect(await engine.savePrefixes()).toBeGreaterThan(3);
      }
      await using engine = await Engine.open(model, { ...spread, prefixFolder });
      for (const [index, each] of requests.entries()) {
        const { text, tokens, cached } = await ask(each, engine);
        expect({ text, tokens }).toEqual(expected[index] ?? expect.unreachable());
        expect(cached).toBe(16);
      }
    } finally {
      rmSync(prefixFolder, { recursive: true });
    }
  },
);

test.each([
  [1, false],
  [2, true],
  [2, false],
])(
  "%p ranks, shared device %p: a lost device fails what was computed, and is opened again",
  async (world, sharedGpu) => {
    const worker = new URL("./losing-rank.ts", import.meta.url);
    await using engine = await Engine.open(model, { ...options, world, sharedGpu, worker });
    const { failure } = await underWay(engine);
    const losing = collect(engine.generate(LOSES, { maxTokens: 5 })).catch((error: unknown) => error);
    expect(await failure).toBeInstanceOf(RanksFailed);
    expect(await failure).toMatchObject({ failedRanks: [0], cause: { _tag: "DeviceError" } });
    expect(String(await failure)).toContain("the device was lost");
    expect(await losing).toBeInstanceOf(RanksFailed);
    await expectServes(engine);
    expect(engine.status()).toMatchObject({ state: "ready", totals: { restarts: 1, failed: 2 } });
  },
);

test.each([
  [1, 0],
  [2, 0],
  [2, 1],
])("of %p ranks on a device, rank %p that is ended in the midst of a step ends itself alone", async (world, rank) => {
  await using engine = await Engine.open(model, { ...options, world, sharedGpu: true });
  const { failure } = await underWay(engine);
  await engine.terminateRank(rank);
  expect(await failure).toBeInstanceOf(RanksFailed);
  expect(await failure).toMatchObject({ failedRanks: [rank] });
  await expectServes(engine);
});

test("a rank that holds the device and dies of an error in the midst of a step ends itself alone", async () => {
  const program = fileURLToPath(new URL("./engine-gpu-death.ts", import.meta.url));
  await using child = Bun.spawn([process.execPath, program], { stdout: "pipe", stderr: "inherit" });
  const said = await new Response(child.stdout).text();
  expect(await child.exited).toBe(0);
  const failure = expect.stringMatching(/^RanksFailed: rank 0 failed .* died of it/);
  expect(JSON.parse(said)).toEqual([failure, failure, model.tokenizer.decode(greedyIds.slice(0, 4))]);
});
