// The generator as a library: bad input is refused, texts end, failures surface, many texts fit one world.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, LockstepError, ResourceClosed } from "@lockstep/tensor";
import { UnfitOptions } from "../src/errors.ts";
import { Generator } from "../src/generation/generator.ts";
import { openModel } from "../src/model/model.ts";
import { continuation, greedy, model } from "./shipped-model.ts";
import { outcomeOf } from "../../../tests/outcome-of.ts";

setDefaultTimeout(120_000);

const { promptIds, greedyIds } = greedy[0] ?? expect.unreachable();
const options = { world: 2, backend: "wasm", capacity: 64 } as const;

test("one world continues one text after another", async () => {
  await using generator = await Generator.open(model, options);
  for (const entry of [0, 1, 2, 1, 0]) {
    const { promptIds, greedyIds } = greedy[entry] ?? expect.unreachable();
    expect(await continuation(generator, promptIds, 40)).toEqual(greedyIds.slice(0, 40));
  }
});

test("a text ends before an end token, or after maxTokens", async () => {
  await using generator = await Generator.open(model, options);
  const generate = async (maxTokens: number, endTokens: number[]): Promise<number[]> => {
    const tokens: number[] = [];
    for await (const token of generator.generate(promptIds, { maxTokens, endTokens })) tokens.push(token);
    return tokens;
  };
  const newline = 199;
  const line = greedyIds.indexOf(newline);
  expect(await generate(50, [newline])).toEqual(greedyIds.slice(0, line));
  expect(await generate(50, [greedyIds[0] ?? -1])).toEqual([]);
  expect(await generate(line, [newline])).toEqual(greedyIds.slice(0, line));
  expect(await generate(1, [])).toEqual(greedyIds.slice(0, 1));
  expect(await generate(34, [])).toEqual(greedyIds.slice(0, 34));
});

test("ranks in workers of the caller's own: the same tokens", async () => {
  const worker = new URL("./own-rank.ts", import.meta.url);
  await using generator = await Generator.open(model, { ...options, worker });
  expect(await continuation(generator, promptIds, 20)).toEqual(greedyIds.slice(0, 20));
  const wrong = Generator.open(model, { ...options, worker: 5 as never });
  expect(await wrong.catch((error: unknown) => error)).toMatchObject({ _tag: "ArgumentError", argument: "worker" });
});

test("workers that are ranks of another program are refused on opening, and end", async () => {
  const ended: Promise<unknown>[] = [];
  const worker = (): Worker => {
    const started = new Worker(new URL("./foreign-rank.ts", import.meta.url), { type: "module" });
    ended.push(new Promise((resolve) => started.addEventListener("close", resolve)));
    return started;
  };
  const error = await Generator.open(model, { ...options, worker }).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ _tag: "ArgumentError", operation: "Generator.open", argument: "worker" });
  expect(String(error)).toContain("runGeneratorRank");
  expect(await Promise.all(ended)).toHaveLength(2);
});

test("leaving a text early leaves the world usable", async () => {
  await using generator = await Generator.open(model, options);
  for await (const token of generator.generate(promptIds, { maxTokens: 50 })) {
    if (token === greedyIds[3]) break;
  }
  expect(await continuation(generator, promptIds, 10)).toEqual(greedyIds.slice(0, 10));
});

describe("refused", () => {
  test("values that no type allows: nothing is computed", async () => {
    for (const wrong of [null, 5, {}, { folder: "here", config: null }]) {
      expect(await outcomeOf(Generator.open(wrong as never, options))).toThrow(ArgumentError);
    }
    for (const wrong of [
      { softwareVulkan: "yes" },
      { sharedGpu: 1 },
      { batchInvariant: 0 },
      { calibration: null },
      { calibration: [-1] },
    ]) {
      expect(await outcomeOf(Generator.open(model, { ...options, ...(wrong as object) }))).toThrow(ArgumentError);
    }
    for (const wrong of [null, undefined, 5, {}, ["model"]]) {
      expect(() => openModel(wrong as never)).toThrow(ArgumentError);
      expect(() => model.tokenizer.encode(wrong as never)).toThrow(ArgumentError);
    }
    expect(() => model.tokenizer.decode(null as never)).toThrow(ArgumentError);
    await using generator = await Generator.open(model, options);
    for (const ids of [
      null,
      undefined,
      5,
      {},
      "ab",
      { length: 2 },
      [1, undefined],
      new Array(2),
      [1n],
      [Symbol("one")],
    ]) {
      expect(await outcomeOf(generator.generate(ids as never, { maxTokens: 1 }).next())).toThrow(ArgumentError);
      expect(await outcomeOf(generator.generateAll(ids as never, { maxTokens: 1 }).next())).toThrow(ArgumentError);
      expect(await outcomeOf(generator.prefill(ids as never))).toThrow(ArgumentError);
      expect(await outcomeOf(generator.step(ids as never))).toThrow(ArgumentError);
    }
    for (const wrong of [
      { endTokens: null },
      { endTokens: 5 },
      { endTokens: ["x"] },
      { onPrefill: 5 },
      { explain: "first" },
      { explain: 0 },
      { maxTokens: Symbol("many") },
    ]) {
      const all = { maxTokens: 1, ...wrong } as never;
      expect(await outcomeOf(generator.generateAll([[1]], all).next())).toThrow(ArgumentError);
    }
    for (const none of [null, undefined, 5]) {
      expect(await outcomeOf(generator.generateAll([[1]], none as never).next())).toThrow(ArgumentError);
    }
    expect(await outcomeOf(generator.prefill([1], 5 as never))).toThrow(ArgumentError);
    const [rank] = await generator.metrics();
    expect(rank?.attention.steps).toBe(0);
  });

  test("ids beyond the vocabulary, empty and overlong steps: nothing is computed", async () => {
    await using generator = await Generator.open(model, { ...options, maxStepTokens: 4 });
    await generator.prefill([1, 2, 3]);
    for (const ids of [[], [4096], [-1], [1.5], [1, 2, 3, 4, 5]]) {
      expect(await outcomeOf(generator.step(ids))).toThrow(ArgumentError);
    }
    const all = (prompts: number[][], maxTokens: number) => generator.generateAll(prompts, { maxTokens }).next();
    expect(await outcomeOf(all([[4096]], 1))).toThrow("`prompts[0]` must be from 0 to 4095, but is 4096");
    expect(await outcomeOf(all([[]], 1))).toThrow("`prompts[0]` must be at least one token");
    expect(await outcomeOf(all([[1]], 0))).toThrow("`maxTokens` must be a positive integer");
    expect(await outcomeOf(all([[1], [2]], 1))).toThrow("`prompts` must be from 1 to 1, the texts it was opened for");
    const [rank] = await generator.metrics();
    expect(rank?.attention.steps).toBe(1);
  });

  test("sizes that cannot run the model", async () => {
    expect(await outcomeOf(Generator.open(model, { ...options, world: 9 }))).toThrow(UnfitOptions);
    expect(await outcomeOf(Generator.open(model, { ...options, world: 4, dcp: 4, kvHeads: "sharded" }))).toThrow(
      UnfitOptions,
    );
    expect(await outcomeOf(Generator.open(model, { ...options, capacity: 16385 }))).toThrow("was made for 16384");
  });

  test("a text that outgrows the blocks it was promised, on the host, naming the cause", async () => {
    await using generator = await Generator.open(model, { ...options, capacity: 32 });
    const error: unknown = await continuation(generator, promptIds, 40).catch((thrown: unknown) => thrown);
    expect(String(error)).toStartWith("OutOfBlocks: out of KV blocks: the step needs 1 more, 0 of 2 are free.");
  });
});

describe("overlapping use", () => {
  test("texts that are asked for at once come out one after another, each its own", async () => {
    await using generator = await Generator.open(model, options);
    const entries = [0, 1, 2].map((entry) => greedy[entry] ?? expect.unreachable());
    const found = await Promise.all(entries.map(({ promptIds }) => continuation(generator, promptIds, 20)));
    expect(found).toEqual(entries.map(({ greedyIds }) => greedyIds.slice(0, 20)));
  });

  test("taking tokens of two texts in turn, a refused one and one dropped between them", async () => {
    await using generator = await Generator.open(model, options);
    const entries = [0, 1].map((entry) => greedy[entry] ?? expect.unreachable());
    const streams = entries.map(({ promptIds }) => generator.generate(promptIds, { maxTokens: 5 }));
    expect(await outcomeOf(generator.generate([4096], { maxTokens: 5 }).next())).toThrow(ArgumentError);
    const found: number[][] = [[], []];
    for (let round = 0; round < 5; round++) {
      for (const [text, stream] of streams.entries()) found[text]?.push((await stream.next()).value ?? -1);
    }
    expect(found).toEqual(entries.map(({ greedyIds }) => greedyIds.slice(0, 5)));
    const dropped = generator.generate(promptIds, { maxTokens: 40 });
    expect((await dropped.next()).value).toBe(greedyIds[0]);
    const [next] = await Promise.all([continuation(generator, promptIds, 10), dropped.return()]);
    expect(next).toEqual(greedyIds.slice(0, 10));
  });

  test("a text that fails does not hurt the one after it", async () => {
    await using generator = await Generator.open(model, options);
    const long = continuation(generator, promptIds, 200).catch((error: unknown) => error);
    const short = continuation(generator, promptIds, 10);
    expect(await long).toBeInstanceOf(LockstepError);
    expect(await short).toEqual(greedyIds.slice(0, 10));
  });

  test("every method of a closed generator says so", async () => {
    const generator = await Generator.open(model, options);
    await generator.close();
    await generator.close();
    for (const use of [
      () => generator.generate(promptIds, { maxTokens: 1 }).next(),
      () => generator.generateAll([promptIds], { maxTokens: 1 }).next(),
      () => generator.prefill(promptIds),
      () => generator.step([1]),
      () => generator.logits(),
      () => generator.explain(),
      () => generator.metrics(),
      () => generator.eraseCache(0),
    ]) {
      expect(await outcomeOf(use())).toThrow(ResourceClosed);
    }
  });
});
