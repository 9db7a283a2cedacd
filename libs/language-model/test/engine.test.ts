// The engine as a library: requests come and go, share what begins alike, give way, are given up, and survive ranks.
import { describe, expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ArgumentError, ResourceClosed } from "@lockstep/tensor";
import { Engine } from "../src/engine/engine.ts";
import type { GeneratedPart, Prompt, RequestOptions } from "../src/engine/request-options.ts";
import { EngineBusy, RanksFailed } from "../src/errors.ts";
import { greedy, model } from "./shipped-model.ts";
import { outcomeOf, reasonOf } from "../../../tests/outcome-of.ts";

setDefaultTimeout(120_000);

const { promptIds, greedyIds } = greedy[0] ?? expect.unreachable();
const options = { world: 2, backend: "wasm", maxContext: 256 } as const;

interface Answer {
  readonly text: string;
  readonly ids: number[];
  readonly last: GeneratedPart | undefined;
}

async function collect(parts: AsyncIterable<GeneratedPart>): Promise<Answer> {
  let text = "";
  const ids: number[] = [];
  let last: GeneratedPart | undefined;
  for await (const part of parts) {
    expect(last?.finish).toBeUndefined();
    text += part.text;
    ids.push(...part.tokens.map(({ id }) => id));
    last = part;
  }
  return { text, ids, last };
}

/** Some requests, each unlike the others. */
function requests(count: number): { prompt: Prompt; options: RequestOptions }[] {
  return Array.from({ length: count }, (_, index) => {
    const { promptIds: ids } = greedy[index % greedy.length] ?? expect.unreachable();
    return {
      prompt: ids.slice(0, 3 + ((index * 7) % 30)),
      options: {
        maxTokens: 5 + ((index * 5) % 20),
        temperature: (index % 3) * 0.6,
        topP: index % 2 === 0 ? 1 : 0.9,
        topK: index % 5 === 0 ? 40 : 0,
        seed: index,
        ...(index % 4 === 0 ? { logprobs: 2 } : {}),
      },
    };
  });
}

test.each([1, 2, 4])("on %p ranks a request gets the tokens of the model", async (world) => {
  await using engine = await Engine.open(model, { ...options, world });
  const { ids, text, last } = await collect(engine.generate(promptIds, { maxTokens: 30 }));
  expect(ids).toEqual(greedyIds.slice(0, 30));
  expect(text).toBe(model.tokenizer.decode(ids));
  expect(last).toMatchObject({
    finish: "length",
    usage: { promptTokens: promptIds.length, cachedTokens: 0, completionTokens: 30 },
  });
});

test("a text is the same alone and beside others, whenever they come, with prompts in parts", async () => {
  const all = requests(24);
  const alone: Answer[] = [];
  {
    await using engine = await Engine.open(model, { ...options, prefixCache: false });
    for (const each of all) alone.push(await collect(engine.generate(each.prompt, each.options)));
  }
  const small = { maxContext: 64, maxStepTokens: 24, maxRunning: 16, kvTokens: 96, blockSize: 4 };
  await using engine = await Engine.open(model, { ...options, ...small });
  const together = all.map(async (each, index) => {
    await Bun.sleep((index * 13) % 60);
    return await collect(engine.generate(each.prompt, each.options));
  });
  const answers = await Promise.all(together);
  for (const [index, answer] of answers.entries()) {
    expect(answer.text).toBe(alone[index]?.text ?? "");
    expect(answer.ids).toEqual(alone[index]?.ids ?? []);
  }
  const { blocks, totals, running, waiting } = engine.status();
  expect({ used: blocks.used, running, waiting }).toEqual({ used: 0, running: 0, waiting: 0 });
  expect(totals).toMatchObject({ requests: 24, finished: 24, failed: 0, cancelled: 0 });
  // 96 tokens do not hold 16 texts.
  expect(totals.preemptions).toBeGreaterThan(0);
});

test("log-probabilities tell the token, and the likeliest in its place", async () => {
  await using engine = await Engine.open(model, options);
  for await (const { tokens } of engine.generate(promptIds, { maxTokens: 8, logprobs: 3 })) {
    for (const { id, logprob = 1, top = [] } of tokens) {
      expect(top).toHaveLength(3);
      expect(top[0]).toEqual({ id, logprob });
      expect(logprob).toBeLessThanOrEqual(0);
      expect(top.reduce((sum, each) => sum + Math.exp(each.logprob), 0)).toBeLessThanOrEqual(1 + 1e-6);
    }
  }
});

test("many requests that begin alike compute what they share once", async () => {
  await using engine = await Engine.open(model, { ...options, maxRunning: 50 });
  const system = [...promptIds, ...greedyIds].slice(0, 64);
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, index) =>
      collect(engine.generate([...system, 5 + index, 7], { maxTokens: 2, ignoreEnd: true })),
    ),
  );
  const cached = answers.map(({ last }) => last?.usage?.cachedTokens ?? -1).sort((a, b) => a - b);
  expect(cached).toEqual([0, ...Array(49).fill(64)]);
  expect(engine.status().totals).toMatchObject({ promptTokens: 50 * 66, cachedTokens: 49 * 64 });
});

test("what is known outlives an engine, is known to one on other ranks, and refused by one with another dtype", async () => {
  const prefixFolder = mkdtempSync(join(tmpdir(), "lockstep-engine-"));
  try {
    const prompt = [...promptIds, ...greedyIds].slice(0, 50);
    const saving = { ...options, prefixFolder };
    let first: Answer;
    {
      await using engine = await Engine.open(model, saving);
      first = await collect(engine.generate(prompt, { maxTokens: 10 }));
      expect(await engine.savePrefixes()).toBe(3);
    }
    await using engine = await Engine.open(model, saving);
    expect(engine.status().blocks).toMatchObject({ used: 0, cached: 3 });
    const again = await collect(engine.generate(prompt, { maxTokens: 10 }));
    expect({ text: again.text, ids: again.ids }).toEqual({ text: first.text, ids: first.ids });
    expect([first, again].map(({ last }) => last?.usage?.cachedTokens)).toEqual([0, 48]);
    {
      await using alone = await Engine.open(model, { ...saving, world: 1 });
      const found = await collect(alone.generate(prompt, { maxTokens: 10 }));
      expect(found.ids).toEqual(first.ids);
      expect(found.last?.usage?.cachedTokens).toBe(48);
    }
    const refused = await reasonOf(Engine.open(model, { ...saving, world: 1, kvDtype: "f16" }));
    expect(refused).toMatchObject({ _tag: "PrefixStoreError", reason: "layout" });
    await using other = await Engine.open(model, options);
    expect(await reasonOf(other.savePrefixes())).toMatchObject({ _tag: "ArgumentError", argument: "prefixFolder" });
  } finally {
    rmSync(prefixFolder, { recursive: true });
  }
});

test.each([1, 2])("on %p ranks no more is saved than may be, of what was used last", async (world) => {
  const prefixFolder = mkdtempSync(join(tmpdir(), "lockstep-engine-"));
  try {
    // In a block of 16 tokens each of two ranks keeps 1 of 2 KV heads of 64, in 8 layers, keys and values.
    const blockBytes = (8 * 2 * 16 * 64 * 4 * 2) / world + 4 * 17;
    const saving = { ...options, world, prefixFolder, prefixBytes: Math.floor(4.9 * blockBytes) };
    const [first, second] = [20, 2000].map((from) => Array.from({ length: 49 }, (_, index) => from + index));
    {
      await using engine = await Engine.open(model, saving);
      for (const prompt of [first ?? [], second ?? []]) await collect(engine.generate(prompt, { maxTokens: 1 }));
      expect(engine.status().blocks.cached).toBe(6);
      expect(await engine.savePrefixes()).toBe(4);
    }
    for (let rank = 0; rank < world; rank++) {
      const { size } = statSync(join(prefixFolder, `prefixes-rank-${rank}.safetensors`));
      expect(size).toBeGreaterThan(4 * blockBytes);
      expect(size).toBeLessThan(saving.prefixBytes + 4096);
    }
    await using engine = await Engine.open(model, saving);
    expect(engine.status().blocks.cached).toBe(4);
    const cached: unknown[] = [];
    for (const prompt of [second ?? [], first ?? []]) {
      cached.push((await collect(engine.generate(prompt, { maxTokens: 1 }))).last?.usage?.cachedTokens);
    }
    expect(cached).toEqual([48, 16]);
    // A limit that nothing fits leaves an empty save.
    await using small = await Engine.open(model, { ...saving, prefixBytes: 1 });
    expect(await small.savePrefixes()).toBe(0);
    await using empty = await Engine.open(model, saving);
    expect(empty.status().blocks.cached).toBe(0);
  } finally {
    rmSync(prefixFolder, { recursive: true });
  }
});

test("what was saved is known again to ranks that are opened in the place of dead ones", async () => {
  const prefixFolder = mkdtempSync(join(tmpdir(), "lockstep-engine-"));
  try {
    await using engine = await Engine.open(model, { ...options, prefixFolder });
    const prompt = Array.from({ length: 100 }, (_, index) => 20 + index);
    await collect(engine.generate(prompt, { maxTokens: 2 }));
    const saved = await engine.savePrefixes();
    expect(saved).toBeGreaterThan(0);
    await engine.terminateRank(1);
    const { last } = await collect(engine.generate(prompt, { maxTokens: 2 }));
    expect(engine.status().totals.restarts).toBe(1);
    expect(last?.usage?.cachedTokens).toBe(96);
    expect(await engine.savePrefixes()).toBe(saved);
    // Without what was saved they serve too.
    rmSync(join(prefixFolder, "prefixes-rank-1.safetensors"));
    await engine.terminateRank(1);
    const { last: next } = await collect(engine.generate(prompt, { maxTokens: 2 }));
    expect(next?.usage?.cachedTokens).toBe(0);
  } finally {
    rmSync(prefixFolder, { recursive: true });
  }
});

describe("leaving early", () => {
  test("a dropped iterator, an aborted signal and a stop text free the blocks", async () => {
    await using engine = await Engine.open(model, { ...options, prefixCache: false });
    const free = async (): Promise<void> => {
      const until = performance.now() + 10_000;
      while (engine.status().blocks.used > 0 && performance.now() < until) await Bun.sleep(2);
      expect(engine.status()).toMatchObject({ running: 0, waiting: 0, blocks: { used: 0 } });
    };
    for await (const { tokens } of engine.generate(promptIds, { maxTokens: 200, ignoreEnd: true })) {
      if (tokens.length > 0) break;
    }
    await free();
    const controller = new AbortController();
    const reading = collect(engine.generate(promptIds, { ignoreEnd: true, signal: controller.signal }));
    setTimeout(() => controller.abort(new Error("went away")), 20);
    expect(await outcomeOf(reading)).toThrow("went away");
    await free();
    const never = engine.generate(promptIds, { ignoreEnd: true, maxTokens: 200 });
    await never.return();
    expect(await never.next()).toEqual({ done: true, value: undefined });
    await free();
    const whole = await collect(engine.generate(promptIds, { maxTokens: 40 }));
    const stop = whole.text.slice(20, 24);
    const cut = await collect(engine.generate(promptIds, { maxTokens: 40, stop }));
    expect(cut.text).toBe(whole.text.slice(0, whole.text.indexOf(stop)));
    expect(cut.last?.finish).toBe("stop");
    await free();
    expect(engine.status().totals).toMatchObject({ cancelled: 3, finished: 2 });
  });

  test("a request whose signal has aborted is not computed", async () => {
    await using engine = await Engine.open(model, options);
    const request = engine.generate(promptIds, { signal: AbortSignal.abort(new Error("too late")) });
    expect(await outcomeOf(request.next())).toThrow("too late");
    expect(engine.status().totals.requests).toBe(0);
  });
});

test("a request that nobody reads is computed to its end", async () => {
  await using engine = await Engine.open(model, options);
  const request = engine.generate(promptIds, { maxTokens: 10 });
  await engine.drain();
  expect((await collect(request)).ids).toEqual(greedyIds.slice(0, 10));
  expect(() => engine.generate(promptIds)).toThrow(ResourceClosed);
});

test("more than may wait are refused, and say when to come again", async () => {
  await using engine = await Engine.open(model, { ...options, maxRunning: 1, maxWaiting: 2 });
  // Also all at once, when none is computed yet.
  const taken = [0, 1, 2].map(() => collect(engine.generate(promptIds, { maxTokens: 30 })));
  let refusal: unknown;
  try {
    engine.generate(promptIds);
  } catch (error) {
    refusal = error;
  }
  expect(refusal).toBeInstanceOf(EngineBusy);
  expect((refusal as EngineBusy).retryAfterMs).toBeGreaterThan(0);
  await Promise.all(taken);
  expect(engine.status().totals).toMatchObject({ refused: 1, finished: 3 });
});

test("where none may wait, as many are served as are computed at once", async () => {
  await using engine = await Engine.open(model, { ...options, maxRunning: 2, maxWaiting: 0 });
  const taken = [0, 1].map(() => collect(engine.generate(promptIds, { maxTokens: 5 })));
  expect(() => engine.generate(promptIds)).toThrow(EngineBusy);
  for (const { ids } of await Promise.all(taken)) expect(ids).toEqual(greedyIds.slice(0, 5));
  expect((await collect(engine.generate(promptIds, { maxTokens: 5 }))).ids).toEqual(greedyIds.slice(0, 5));
});

test("a request that was refused gives up nothing when its signal aborts", async () => {
  await using engine = await Engine.open(model, { ...options, maxRunning: 1, maxWaiting: 1 });
  const first = engine.generate(promptIds, { maxTokens: 200, ignoreEnd: true });
  await first.next();
  const second = collect(engine.generate(promptIds, { maxTokens: 3 }));
  const abort = new AbortController();
  expect(() => engine.generate(promptIds, { signal: abort.signal })).toThrow(EngineBusy);
  await first.return();
  await second;
  const next = collect(engine.generate(promptIds, { maxTokens: 5 }));
  abort.abort();
  expect((await next).ids).toEqual(greedyIds.slice(0, 5));
  expect(engine.status().totals).toMatchObject({ cancelled: 1, refused: 1, finished: 2 });
});

test("nothing listens to the signal of a request that is over, however it ended", async () => {
  await using engine = await Engine.open(model, { ...options, maxRunning: 1, maxWaiting: 1, maxRestarts: 0 });
  const abort = new AbortController();
  const { signal } = abort;
  let listeners = 0;
  const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
  spyOn(signal, "addEventListener").mockImplementation((...args: Parameters<typeof add>) => {
    listeners++;
    add(...args);
  });
  spyOn(signal, "removeEventListener").mockImplementation((...args: Parameters<typeof remove>) => {
    listeners--;
    remove(...args);
  });
  await collect(engine.generate(promptIds, { maxTokens: 3, signal }));
  const dropped = engine.generate(promptIds, { maxTokens: 200, ignoreEnd: true, signal });
  await dropped.next();
  const waiting = engine.generate(promptIds, { maxTokens: 3, signal });
  expect(listeners).toBe(2);
  expect(() => engine.generate(promptIds, { signal })).toThrow(EngineBusy);
  expect(listeners).toBe(2);
  await dropped.return();
  await collect(waiting);
  const failing = engine.generate(promptIds, { maxTokens: 200, ignoreEnd: true, signal });
  await failing.next();
  await engine.terminateRank(1);
  expect(await outcomeOf(collect(failing))).toThrow(RanksFailed);
  while (engine.status().state === "restarting") await Bun.sleep(5);
  expect(() => engine.generate(promptIds, { signal })).toThrow(RanksFailed);
  expect(listeners).toBe(0);
});

test("what is no request is refused at once, and names what is wrong", async () => {
  await using engine = await Engine.open(model, options);
  const wrong: [unknown, unknown, string][] = [
    [5, {}, "prompt"],
    [[], {}, "prompt"],
    [[-1], {}, "prompt"],
    [[1.5], {}, "prompt"],
    [Array(256).fill(1), {}, "prompt"],
    [promptIds, { maxTokens: 0 }, "maxTokens"],
    [promptIds, { maxTokens: 1000 }, "maxTokens"],
    [promptIds, { temperature: -1 }, "temperature"],
    [promptIds, { topP: 0 }, "topP"],
    [promptIds, { topK: 1.5 }, "topK"],
    [promptIds, { minP: 2 }, "minP"],
    [promptIds, { seed: -1 }, "seed"],
    [promptIds, { logprobs: 21 }, "logprobs"],
    [promptIds, { stop: [""] }, "stop"],
    [promptIds, { ignoreEnd: 1 }, "ignoreEnd"],
    [promptIds, { signal: {} }, "signal"],
    [promptIds, { label: 5 }, "label"],
    [promptIds, { label: "x".repeat(257) }, "label"],
    [promptIds, null, "options"],
  ];
  for (const [prompt, given, argument] of wrong) {
    let error: unknown;
    try {
      Reflect.apply(engine.generate, engine, [prompt, given]);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error).toMatchObject({ argument });
  }
  expect(engine.status().totals.requests).toBe(0);
  expect((await collect(engine.generate(promptIds, { maxTokens: 5 }))).ids).toEqual(greedyIds.slice(0, 5));
});

test("a rank that dies fails what was computed, is named, and what waits and comes later is served", async () => {
  await using engine = await Engine.open(model, { ...options, maxRunning: 2, maxRestarts: 1 });
  const long = { maxTokens: 200, ignoreEnd: true };
  const computed = [0, 1].map(() => engine.generate(promptIds, long));
  await Promise.all(computed.map((request) => request.next()));
  const waiting = collect(engine.generate(promptIds, { maxTokens: 12 }));
  await engine.terminateRank(1);
  for (const request of computed) {
    const failure = await collect(request).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(RanksFailed);
    expect(failure).toMatchObject({ failedRanks: [1] });
  }
  expect((await waiting).ids).toEqual(greedyIds.slice(0, 12));
  expect((await collect(engine.generate(promptIds, { maxTokens: 12 }))).ids).toEqual(greedyIds.slice(0, 12));
  expect(engine.status()).toMatchObject({ state: "ready", totals: { restarts: 1, failed: 2, finished: 2 } });
  // A second time within a minute is once too often.
  const last = engine.generate(promptIds, long);
  await last.next();
  await engine.terminateRank(0);
  expect(await outcomeOf(collect(last))).toThrow(RanksFailed);
  while (engine.status().state === "restarting") await Bun.sleep(5);
  expect(engine.status().state).toBe("failed");
  expect(() => engine.generate(promptIds)).toThrow(RanksFailed);
});

test.each([0, 1])("rank %p that dies while nothing is asked of it is opened again for the next", async (rank) => {
  await using engine = await Engine.open(model, options);
  await engine.terminateRank(rank);
  expect((await collect(engine.generate(promptIds, { maxTokens: 12 }))).ids).toEqual(greedyIds.slice(0, 12));
});

test.each([0, 1])("rank %p that dies while nothing is asked is noticed, told, and opened again", async (rank) => {
  await using engine = await Engine.open(model, { ...options, maxRestarts: 1 });
  const states = new Set<string>();
  const until = async (isWanted: () => boolean): Promise<void> => {
    while (!isWanted()) {
      states.add(engine.status().state);
      await Bun.sleep(2);
    }
  };
  await engine.terminateRank(rank);
  await until(() => engine.status().totals.restarts === 1);
  expect([...states]).toEqual(["ready", "restarting"]);
  expect(engine.status()).toMatchObject({ state: "ready", blocks: { used: 0, cached: 0 } });
  expect((await collect(engine.generate(promptIds, { maxTokens: 5 }))).ids).toEqual(greedyIds.slice(0, 5));
  // A second time within a minute is once too often, also when nobody asks.
  await engine.terminateRank(rank);
  await until(() => engine.status().state === "failed");
  expect(() => engine.generate(promptIds)).toThrow(RanksFailed);
});

test("while ranks are opened again requests are taken up to the same bound, given up at once, and served after", async () => {
  await using engine = await Engine.open(model, { ...options, maxRunning: 2, maxWaiting: 2 });
  const computed = engine.generate(promptIds, { maxTokens: 200, ignoreEnd: true });
  await computed.next();
  await engine.terminateRank(1);
  expect(await outcomeOf(collect(computed))).toThrow(RanksFailed);
  while (engine.status().state !== "restarting") await Bun.sleep(0);
  // From here to the first wait nothing else runs.
  const taken = [12, 5].map((maxTokens) => engine.generate(promptIds, { maxTokens }));
  const abort = new AbortController();
  const aborted = engine.generate(promptIds, { signal: abort.signal });
  const dropped = engine.generate(promptIds);
  expect(() => engine.generate(promptIds)).toThrow(EngineBusy);
  expect(engine.status()).toMatchObject({
    state: "restarting",
    running: 0,
    waiting: 4,
    blocks: { used: 0, cached: 0 },
  });
  expect(() => engine.flightRecord()).toThrow(ResourceClosed);
  abort.abort(new Error("went away"));
  const gone = [aborted.next().catch((error: unknown) => error), dropped.return()];
  expect(await Promise.all(gone)).toEqual([new Error("went away"), { done: true, value: undefined }]);
  expect(engine.status()).toMatchObject({ state: "restarting", waiting: 2 });
  expect(await engine.explainStep(0)).toBeUndefined();
  const ids = (await Promise.all(taken.map((request) => collect(request)))).map((answer) => answer.ids);
  expect(ids).toEqual([greedyIds.slice(0, 12), greedyIds.slice(0, 5)]);
  expect(engine.status().totals).toMatchObject({ restarts: 1, finished: 2, cancelled: 2, failed: 1, refused: 1 });
});

test("requests that wait for ranks which cannot be opened again fail, and are not kept", async () => {
  let started = 0;
  const worker = (): Worker => {
    const name = ++started > 2 ? "./foreign-rank.ts" : "./own-rank.ts";
    return new Worker(new URL(name, import.meta.url).href, { type: "module" });
  };
  await using engine = await Engine.open(model, { ...options, worker });
  const waiting: Promise<unknown>[] = [];
  await engine.terminateRank(0);
  while (engine.status().state !== "restarting") await Bun.sleep(1);
  for (let request = 0; request < 3; request++) {
    waiting.push(collect(engine.generate(promptIds, { maxTokens: 5 })).catch((error: unknown) => error));
  }
  for (const failure of await Promise.all(waiting)) expect(failure).toBeInstanceOf(RanksFailed);
  expect(engine.status()).toMatchObject({ state: "failed", waiting: 0, totals: { failed: 3 } });
});

test("a rank that hangs is seen in the flight record, is named at the deadline, and what comes later is served", async () => {
  const worker = new URL("./hanging-rank.ts", import.meta.url);
  await using engine = await Engine.open(model, { ...options, worker, deadlineMs: 3000 });
  expect((await collect(engine.generate(promptIds, { maxTokens: 5 }))).ids).toEqual(greedyIds.slice(0, 5));
  const hanging = collect(engine.generate([7, 7], { maxTokens: 5 })).catch((error: unknown) => error);
  const waitsFor = (): boolean =>
    engine.flightRecord().groups.some(({ ranks }) => ranks[0]?.ops.at(-1)?.state === "waiting");
  while (!waitsFor()) await Bun.sleep(5);
  const failure = await hanging;
  expect(failure).toBeInstanceOf(RanksFailed);
  expect(failure).toMatchObject({ failedRanks: [1] });
  expect((await collect(engine.generate(promptIds, { maxTokens: 5 }))).ids).toEqual(greedyIds.slice(0, 5));
});

test("a step is explained: whose texts, which rank held what, and each rank's share", async () => {
  await using engine = await Engine.open(model, { ...options, dcp: 2, kvHeads: "replicated" });
  expect(await engine.explainStep(10)).toBeUndefined();
  const explaining = engine.explainStep(30_000);
  const label = "mine".repeat(64);
  const reading = collect(engine.generate(promptIds, { maxTokens: 20, label }));
  const step = (await explaining) ?? expect.unreachable();
  await reading;
  expect(step.requests).toEqual([{ text: 0, promptTokens: promptIds.length, length: promptIds.length, label }]);
  expect(step.explanation.ranks.map(({ rank }) => rank)).toEqual([0, 1]);
  for (const { shares } of step.explanation.queries) {
    for (const layer of shares) {
      for (const head of layer) expect(head.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 4);
    }
  }
  const { stepMs, gatherMs, attentionMs, combineMs } = step.times;
  expect(stepMs).toBeGreaterThan(0);
  expect(gatherMs + attentionMs + combineMs).toBeGreaterThan(0);
});

test("the flight record tells of every rank, and a closed engine says so", async () => {
  const engine = await Engine.open(model, options);
  await collect(engine.generate(promptIds, { maxTokens: 2 }));
  expect(engine.flightRecord().groups.some(({ ranks }) => ranks.length === 2)).toBe(true);
  const request = engine.generate(promptIds, { ignoreEnd: true });
  await engine.close();
  expect(await outcomeOf(collect(request))).toThrow(ResourceClosed);
  expect(() => engine.generate(promptIds)).toThrow(ResourceClosed);
  expect(() => engine.flightRecord()).toThrow(ResourceClosed);
  expect(engine.status().state).toBe("closed");
  await engine.close();
});
