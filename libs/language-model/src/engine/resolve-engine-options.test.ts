import { expect, test } from "bun:test";
import { ArgumentError } from "@lockstep/tensor";
import { MODEL_FOLDER } from "../../test/shipped-folder.ts";
import { UnfitOptions } from "../errors.ts";
import { openModel } from "../model/model.ts";
import { resolveEngineOptions } from "./resolve-engine-options.ts";
import { outcomeOf, reasonOf } from "../../../../tests/outcome-of.ts";

const model = openModel(MODEL_FOLDER);
const options = { world: 2, backend: "wasm" } as const;

test("what is left out is filled in: 64 requests, 256 that wait, a cache of 8 of the longest texts", async () => {
  const { resolved, ...sizes } = await resolveEngineOptions(model, { ...options, maxContext: 100 });
  expect(sizes).toEqual({
    maxContext: 100,
    maxRunning: 64,
    maxWaiting: 256,
    maxRestarts: 3,
    sharesPrefixes: true,
    prefixFolder: undefined,
    prefixBytes: 256 << 20,
  });
  expect(resolved.rank).toMatchObject({ numBlocks: 50, maxLogitRows: 64, prefixCache: true });
});

test("a cache of so many tokens is rounded up to whole blocks of all ranks that share it", async () => {
  const cache = { maxContext: 64, kvTokens: 65, blockSize: 4 };
  const whole = await resolveEngineOptions(model, { ...options, ...cache });
  expect(whole.resolved.rank.numBlocks).toBe(17);
  const split = await resolveEngineOptions(model, { ...options, ...cache, dcp: 2, kvHeads: "replicated" });
  expect(split.resolved.rank.numBlocks).toBe(9);
});

test("a text is never longer than the cache", async () => {
  expect(await resolveEngineOptions(model, { ...options, kvTokens: 320 })).toMatchObject({ maxContext: 320 });
  const refused = resolveEngineOptions(model, { ...options, maxContext: 100, kvTokens: 99 });
  expect(await outcomeOf(refused)).toThrow(UnfitOptions);
  expect(await outcomeOf(refused)).toThrow("more `kvTokens`, or a smaller `maxContext`");
});

test("the model's own context is the longest where nobody says, and what it was not made for is refused", async () => {
  expect((await resolveEngineOptions(model, options)).maxContext).toBe(16384);
  for (const world of [2, "auto"] as const) {
    const refused = resolveEngineOptions(model, { ...options, world, maxContext: 16385 });
    expect(await outcomeOf(refused)).toThrow(UnfitOptions);
    expect(await outcomeOf(refused)).toThrow("take a `maxContext` of at most 16384");
  }
});

test("what is wrong is said in the engine's words", async () => {
  const problem = 'Engine.open: `world` must be an integer from 1 to 2147483647, or chosen by "auto"';
  expect(await outcomeOf(resolveEngineOptions(model, { ...options, world: 0 }))).toThrow(problem);
  const large = resolveEngineOptions(model, { ...options, kvTokens: 2 ** 31 - 1, maxContext: 16384 });
  const message = await large.then(String, (error: unknown) => String(error));
  expect(message).toStartWith("UnfitOptions: Engine.open: ");
  expect(message).not.toMatch(/`capacity`|`texts`|texts at a time/);
});

test("a number of ranks is chosen when it is to be", async () => {
  const { resolved } = await resolveEngineOptions(model, { world: "auto", backend: "wasm", maxContext: 128 });
  expect(resolved.rank.sizes.world).toBeGreaterThan(0);
  expect(resolved.rank.sizes.world).toBeLessThanOrEqual(8);
});

test.each([
  [undefined, "options"],
  [null, "options"],
  ["x", "options"],
  [{ ...options, maxContext: 1 }, "maxContext"],
  [{ ...options, maxContext: 2.5 }, "maxContext"],
  [{ ...options, kvTokens: 0 }, "kvTokens"],
  [{ ...options, maxRunning: 0 }, "maxRunning"],
  [{ ...options, maxRunning: 1025 }, "maxRunning"],
  [{ ...options, maxWaiting: -1 }, "maxWaiting"],
  [{ ...options, maxRestarts: Number.NaN }, "maxRestarts"],
  [{ ...options, prefixCache: "yes" }, "prefixCache"],
  [{ ...options, prefixFolder: "" }, "prefixFolder"],
  [{ ...options, prefixFolder: 5 }, "prefixFolder"],
  [{ ...options, prefixBytes: 0 }, "prefixBytes"],
  [{ ...options, prefixCache: false, prefixFolder: "known" }, "prefixFolder"],
  [{ ...options, world: 0 }, "world"],
  [{ backend: "wasm" }, "world"],
  [{ ...options, kvDtype: "f7" }, "kvDtype"],
] as const)("%j is refused, and names %s", async (given, argument) => {
  const refused = Reflect.apply(resolveEngineOptions, undefined, [model, given]);
  expect(await outcomeOf(refused)).toThrow(ArgumentError);
  expect(await reasonOf(refused)).toMatchObject({ argument });
});
