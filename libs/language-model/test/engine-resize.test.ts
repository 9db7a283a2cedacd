// An engine that gets more ranks, and fewer, while it generates: requests go on with the tokens of an undisturbed run,
// and nothing of them is computed again.
import { describe, expect, setDefaultTimeout, spyOn, test } from "bun:test";
import os from "node:os";
import { ResourceClosed } from "@lockstep/tensor";
import { Engine } from "../src/engine/engine.ts";
import type { EngineOptions } from "../src/engine/engine-options.ts";
import type { GeneratedPart, GeneratedToken, RequestOptions } from "../src/engine/request-options.ts";
import { MoveFailed, RanksFailed, UnfitOptions } from "../src/errors.ts";
import { planResize } from "../src/generation/plan-resize.ts";
import type { ResizeChanges } from "../src/generation/resize-options.ts";
import { ServingRanks } from "../src/engine/serving-ranks.ts";
import { greedy, model } from "./shipped-model.ts";
import { outcomeOf } from "../../../tests/outcome-of.ts";

setDefaultTimeout(180_000);

const options = { world: 2, dcp: 2, backend: "wasm", maxContext: 256, blockSize: 4, kvTokens: 1024 } as const;
const { promptIds, greedyIds } = greedy[0] ?? expect.unreachable();

/** Requests that go on long enough to be moved twice. */
const REQUESTS: readonly RequestOptions[] = [
  { maxTokens: 60, temperature: 0, ignoreEnd: true },
  { maxTokens: 60, temperature: 0.9, seed: 11, ignoreEnd: true, logprobs: 2 },
  { maxTokens: 50, temperature: 0.7, topP: 0.9, seed: 5, ignoreEnd: true, logprobs: 0 },
];

/** Their tokens; `at` is told how many the first one has. */
async function tokensOf(engine: Engine, at: (tokens: number) => void = () => {}): Promise<GeneratedToken[][]> {
  const collect = async (
    parts: AsyncIterable<GeneratedPart>,
    told: (tokens: number) => void,
  ): Promise<GeneratedToken[]> => {
    const tokens: GeneratedToken[] = [];
    for await (const part of parts) {
      tokens.push(...part.tokens);
      told(tokens.length);
    }
    return tokens;
  };
  return await Promise.all(
    REQUESTS.map((request, index) => collect(engine.generate(promptIds, request), index === 0 ? at : () => {})),
  );
}

const idsOf = (texts: readonly (readonly GeneratedToken[])[]): number[][] =>
  texts.map((tokens) => tokens.map(({ id }) => id));

/** The largest difference of log-probabilities; infinite where one has some and the other has not. */
function logprobsApart(one: readonly GeneratedToken[][], other: readonly GeneratedToken[][]): number {
  const all = (texts: readonly GeneratedToken[][]): number[] =>
    texts.flat().flatMap(({ logprob = 1, top = [] }) => [logprob, ...top.map((each) => each.logprob)]);
  const [a, b] = [all(one), all(other)];
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  return Math.max(...a.map((value, at) => Math.abs(value - (b[at] ?? Number.POSITIVE_INFINITY))));
}

async function undisturbed(more: Partial<EngineOptions> = {}) {
  await using engine = await Engine.open(model, { ...options, ...more });
  return { tokens: await tokensOf(engine), totals: engine.status().totals };
}

const plain = await undisturbed();
const expected = idsOf(plain.tokens);

/** Resizes one after another, each when the first text has so many tokens. */
async function resized(engine: Engine, steps: readonly (readonly [tokens: number, changes: ResizeChanges])[]) {
  const done: Promise<void>[] = [];
  const sizes: number[] = [];
  const tokens = await tokensOf(engine, (count) => {
    const [at = Number.POSITIVE_INFINITY, changes = {}] = steps[done.length] ?? [];
    if (count < at || sizes.length < done.length) return;
    done.push(engine.resize(changes).then(() => void sizes.push(engine.ranks)));
  });
  await Promise.all(done);
  return { tokens, sizes };
}

describe("ranks come and go in the middle of texts", () => {
  test("from 2 to 4 and back to 2, with the tokens of an undisturbed run, of which none is computed again", async () => {
    await using engine = await Engine.open(model, options);
    const { tokens, sizes } = await resized(engine, [
      [8, { world: 4, dcp: 4, interleave: 2 }],
      [25, { world: 2, dcp: 2, interleave: 1 }],
    ]);
    expect(sizes).toEqual([4, 2]);
    expect(idsOf(tokens)).toEqual(expected);
    expect(idsOf(tokens)[0]?.slice(0, 30)).toEqual(greedyIds.slice(0, 30));
    expect(logprobsApart(tokens, plain.tokens)).toBeLessThan(1e-4);
    const { totals } = engine.status();
    expect(totals).toMatchObject({ finished: REQUESTS.length, failed: 0, restarts: 0, preemptions: 0, resizes: 2 });
    expect(totals.generatedTokens).toBe(170);
    // Each token of a prompt that was not known, and each generated one but the last of a text: once.
    const { promptTokens, cachedTokens } = totals;
    expect(totals.computedTokens).toBe(promptTokens - cachedTokens + 170 - REQUESTS.length);
    expect(totals.computedTokens).toBe(plain.totals.computedTokens);
  });

  test("heads that are split, blocks of another size and shares of any size", async () => {
    await using engine = await Engine.open(model, options);
    const { tokens, sizes } = await resized(engine, [
      [6, { world: 4, dcp: 2, blockSize: 6, interleave: 3 }],
      [18, { world: 3, dcp: 3, blockSize: 2, interleave: 1, kvWeights: [2, 0, 1] }],
      [30, { world: 1, dcp: 1, blockSize: 5, kvWeights: [1] }],
    ]);
    expect(sizes).toEqual([4, 3, 1]);
    expect(idsOf(tokens)).toEqual(expected);
    expect(engine.status().totals.computedTokens).toBe(plain.totals.computedTokens);
  });

  test("without a prefix cache nothing is computed again either", async () => {
    const { totals } = await undisturbed({ prefixCache: false });
    await using engine = await Engine.open(model, { ...options, prefixCache: false });
    const { tokens } = await resized(engine, [[10, { world: 3, dcp: 3, kvWeights: [2, 1, 1] }]]);
    expect(engine.ranks).toBe(3);
    expect(idsOf(tokens)).toEqual(expected);
    expect(engine.status().totals.computedTokens).toBe(totals.computedTokens);
  });

  test("with keys and values in int8, whose scales come along", async () => {
    const { tokens: alone, totals } = await undisturbed({ kvDtype: "i8" });
    await using engine = await Engine.open(model, { ...options, kvDtype: "i8" });
    const { tokens } = await resized(engine, [[10, { world: 4, dcp: 4 }]]);
    expect(idsOf(tokens)).toEqual(idsOf(alone));
    expect(engine.status().totals.computedTokens).toBe(totals.computedTokens);
  });

  test("on a GPU, by software, that ranks share", async () => {
    const gpu = { backend: "webgpu", softwareVulkan: true, sharedGpu: true, maxContext: 128 } as const;
    const { tokens: alone, totals } = await undisturbed(gpu);
    await using engine = await Engine.open(model, { ...options, ...gpu });
    const { tokens, sizes } = await resized(engine, [[8, { world: 3, dcp: 3, interleave: 2 }]]);
    expect(sizes).toEqual([3]);
    expect(idsOf(tokens)).toEqual(idsOf(alone));
    expect(engine.status().totals.computedTokens).toBe(totals.computedTokens);
  });

  test("in the world-invariant mode log-probabilities have the same bits", async () => {
    const invariant = { deterministic: "world-invariant" } as const;
    const { tokens: alone, totals } = await undisturbed(invariant);
    await using engine = await Engine.open(model, { ...options, ...invariant });
    const { tokens, sizes } = await resized(engine, [
      [8, { world: 4, dcp: 4, interleave: 2 }],
      [25, { world: 1, dcp: 1 }],
    ]);
    expect(sizes).toEqual([4, 1]);
    expect(tokens).toEqual(alone);
    expect(engine.status().totals.computedTokens).toBe(totals.computedTokens);
  });

  test("what is known of texts comes along, and is not computed again", async () => {
    await using engine = await Engine.open(model, options);
    const [first = []] = idsOf(await tokensOf(engine));
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

  test("requests that are given up, or come, while others take over", async () => {
    await using engine = await Engine.open(model, { ...options, maxRunning: 2 });
    const parts = (request: RequestOptions) => engine.generate(promptIds, request);
    const goesOn = parts({ maxTokens: 40, temperature: 0, ignoreEnd: true });
    const givenUp = parts({ maxTokens: 40, temperature: 0, ignoreEnd: true });
    await goesOn.next();
    await givenUp.next();
    // Two run, so this one waits; it is known to the ranks when they are left.
    const waits = parts({ maxTokens: 5, temperature: 0, ignoreEnd: true });
    const resizing = engine.resize({ world: 3, dcp: 3 });
    await givenUp.return();
    const comes = parts({ maxTokens: 6, temperature: 0, ignoreEnd: true });
    await resizing;
    const ids = async (of: AsyncIterable<GeneratedPart>): Promise<number[]> => {
      const tokens: number[] = [];
      for await (const part of of) tokens.push(...part.tokens.map(({ id }) => id));
      return tokens;
    };
    const [waited, came, rest] = await Promise.all([ids(waits), ids(comes), ids(goesOn)]);
    expect(waited).toEqual(greedyIds.slice(0, 5));
    expect(came).toEqual(greedyIds.slice(0, 6));
    expect(rest).toEqual((expected[0] ?? []).slice(40 - rest.length, 40));
    const { running, waiting, blocks, totals } = engine.status();
    expect([running, waiting, blocks.used]).toEqual([0, 0, 0]);
    expect(totals).toMatchObject({ finished: 3, cancelled: 1, failed: 0 });
  });

  test("blocks that do not suffice: the request that came last is computed again", async () => {
    // Of 32 blocks of 16 tokens there are 8 of 64, one for each text at least: of 9 texts one waits.
    const wide = { ...options, maxContext: 128, kvTokens: 512, blockSize: 8, prefixCache: false };
    await using engine = await Engine.open(model, wide);
    const request = { maxTokens: 100, temperature: 0, ignoreEnd: true };
    const texts = Array.from({ length: 9 }, () => engine.generate(promptIds, request));
    for (const text of texts) await text.next();
    await engine.resize({ blockSize: 32 });
    expect(engine.status().totals.preemptions).toBeGreaterThan(0);
    await Promise.all(
      texts.map(async (text) => {
        for await (const _ of text);
      }),
    );
    expect(engine.status().totals).toMatchObject({ finished: 9, failed: 0 });
  });

  test("a rank of the others that dies while rows come to it: these go on, with nothing computed again", async () => {
    await using engine = await Engine.open(model, options);
    const { writeRows } = ServingRanks.prototype;
    using dying = spyOn(ServingRanks.prototype, "writeRows").mockImplementationOnce(async function (
      this: ServingRanks,
      ...args
    ) {
      await this.terminateRank(args[0]);
      return await writeRows.apply(this, args);
    });
    let resizing: Promise<() => unknown> | undefined;
    const found = await tokensOf(engine, (tokens) => {
      if (tokens >= 8) resizing ??= outcomeOf(engine.resize({ world: 4, dcp: 4 }));
    });
    expect(await resizing).toThrow(MoveFailed);
    expect(dying).toHaveBeenCalled();
    expect(idsOf(found)).toEqual(expected);
    const { computedTokens } = plain.totals;
    expect(engine.status().totals).toMatchObject({ restarts: 0, resizes: 0, failed: 0, computedTokens });
  });

  test("a rank of these that dies while rows go: texts under way are lost, and the engine opens its ranks again", async () => {
    await using engine = await Engine.open(model, options);
    const { readRows } = ServingRanks.prototype;
    using dying = spyOn(ServingRanks.prototype, "readRows").mockImplementationOnce(async function (
      this: ServingRanks,
      ...args
    ) {
      await this.terminateRank(1);
      return await readRows.apply(this, args);
    });
    let resizing: Promise<() => unknown> | undefined;
    const lost = await outcomeOf(
      tokensOf(engine, (tokens) => {
        if (tokens >= 8) resizing ??= outcomeOf(engine.resize({ world: 4, dcp: 4 }));
      }),
    );
    expect(await resizing).toThrow(MoveFailed);
    expect(dying).toHaveBeenCalled();
    expect(lost).toThrow(RanksFailed);
    expect(idsOf(await tokensOf(engine))).toEqual(expected);
    expect(engine.sizes).toMatchObject({ world: 2, dcp: 2 });
    expect(engine.status().totals).toMatchObject({ restarts: 1, resizes: 0 });
  });

  test("what memory does not hold beside these ranks is refused before anything is opened", async () => {
    await using engine = await Engine.open(model, options);
    const opened = spyOn(ServingRanks, "open");
    const { maxContext: capacity, kvTokens: _, ...spread } = options;
    const sized = { ...spread, capacity, texts: 64, kvTokens: 1024 };
    const to = { ...sized, world: 4, dcp: 4 } as const;
    const { peakBytes, from, to: next } = planResize(model, sized, to);
    expect(peakBytes).toBeGreaterThan(from.totalBytes + next.totalBytes);
    // Engines draw tokens, and know prefixes, of which the plan of a generator has nothing: some room for that.
    const room = 64 << 20;
    using memory = spyOn(os, "totalmem").mockReturnValue(peakBytes - room);
    const refused = await outcomeOf(engine.resize({ world: 4, dcp: 4 }));
    expect(refused).toThrow(UnfitOptions);
    expect(refused).toThrow("Engine.resize: 2 ranks and 4 ranks beside them take");
    expect(opened).not.toHaveBeenCalled();
    expect(planResize(model, sized, to).problem).toContain("while the context moves");
    memory.mockReturnValue(peakBytes + room);
    await engine.resize({ world: 4, dcp: 4 });
    expect(opened).toHaveBeenCalledTimes(1);
    opened.mockRestore();
    expect(engine.ranks).toBe(4);
  });

  test("what cannot be changes nothing, nor does what is given up", async () => {
    await using engine = await Engine.open(model, options);
    const stop = new AbortController();
    let refused: Promise<(() => unknown)[]> | undefined;
    const found = await tokensOf(engine, (tokens) => {
      if (tokens < 5 || refused !== undefined) return;
      refused = Promise.all([
        outcomeOf(engine.resize({ world: 2, dcp: 2, blockSize: 4, interleave: 3 })),
        outcomeOf(engine.resize({ world: 4, dcp: 4 }, { signal: stop.signal })),
      ]);
      stop.abort(new Error("not wanted any more"));
    });
    const [unfit, unwanted] = (await refused) ?? [];
    expect(unfit).toThrow("interleave");
    expect(unwanted).toThrow("not wanted any more");
    expect(idsOf(found)).toEqual(expected);
    expect(engine.sizes).toMatchObject({ world: 2, dcp: 2 });
    expect(engine.status().totals).toMatchObject({ resizes: 0, computedTokens: plain.totals.computedTokens });
    await engine.close();
    expect(await outcomeOf(engine.resize({ world: 1 }))).toThrow(ResourceClosed);
  });
});
