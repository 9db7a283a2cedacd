import { expect, test } from "bun:test";
import { ArgumentError } from "@lockstep/tensor";
import { MODEL_FOLDER } from "../../test/shipped-folder.ts";
import { UnfitOptions } from "../errors.ts";
import { openModel } from "../model/model.ts";
import type { SizedOptions } from "./generator-options.ts";
import { planMemory } from "./plan-memory.ts";
import { planOptions, resolveOptions } from "./resolve-options.ts";

const model = openModel(MODEL_FOLDER);
const least = { world: 4, capacity: 64 } as const;
const resolve = (options: unknown) => resolveOptions(model, options as SizedOptions);

test("what is left out is filled in", () => {
  const { rank, texts, maxDraft, deadlineMs } = resolve(least);
  expect([texts, maxDraft, deadlineMs]).toEqual([1, 0, 120_000]);
  expect(rank.sizes).toEqual({ world: 4, dcp: 2, kvLayout: "sharded" });
  expect(rank).toMatchObject({ backend: "auto", combine: "auto", kvDtype: "f32", calibration: [], blockSize: 16 });
  expect(rank.weights).toBe("stored");
  // 64 tokens in blocks of 16, dealt to the two ranks that share a KV head.
  expect([rank.numBlocks, rank.maxStepTokens, rank.maxLogitRows, rank.interleave]).toEqual([2, 256, 1, 1]);
});

test.each([
  [{ world: 2 }, { world: 2, dcp: 1, kvLayout: "sharded" }],
  [
    { world: 4, kvHeads: "sharded" },
    { world: 4, dcp: 2, kvLayout: "sharded" },
  ],
  [
    { world: 4, kvHeads: "replicated" },
    { world: 4, dcp: 4, kvLayout: "replicated" },
  ],
  [
    { world: 4, dcp: 4 },
    { world: 4, dcp: 4, kvLayout: "replicated" },
  ],
  [{ world: 3 }, { world: 3, dcp: 3, kvLayout: "replicated" }],
  [{ world: 1 }, { world: 1, dcp: 1, kvLayout: "replicated" }],
] as const)(
  "%j: as few ranks split tokens as leave no KV head stored twice, unless said otherwise",
  (options, sizes) => {
    expect(resolve({ capacity: 64, ...options }).rank.sizes).toEqual(sizes);
  },
);

test("sizes say that logits are to have the same bits on any number of ranks", () => {
  const sizes = { world: 4, dcp: 2, kvLayout: "sharded" } as const;
  const { rank } = resolve({ ...least, deterministic: "world-invariant" });
  expect(rank.sizes).toEqual({ ...sizes, deterministic: "world-invariant" });
  expect(resolve({ ...least, deterministic: "rank-order" }).rank.sizes).toEqual(sizes);
});

test("what would make bits depend on the world is refused in the mode in which they do not", () => {
  const mode = { ...least, deterministic: "world-invariant" } as const;
  expect(() => resolve({ ...mode, combine: "one-shot" })).toThrow(UnfitOptions);
  expect(() => resolve({ ...mode, combine: "one-shot" })).toThrow(
    "`combine` a2a, ag-rs or auto, but is given one-shot.",
  );
  expect(() => resolve({ ...mode, batchInvariant: false })).toThrow(UnfitOptions);
  expect(() => resolve({ ...mode, batchInvariant: false })).toThrow("needs `batchInvariant`");
  for (const combine of ["a2a", "ag-rs", "auto"] as const)
    expect(resolve({ ...mode, combine }).rank.combine).toBe(combine);
  expect(() => resolve({ ...least, deterministic: "always" })).toThrow(ArgumentError);
});

test("plans of ranks that gather count what they gather", () => {
  const plan = (options: object) => planMemory(model, { ...least, backend: "wasm", ...options }).ranks;
  const [plain, gathering] = [plan({}), plan({ deterministic: "world-invariant" })];
  for (const [rank, { scratch, exchange, kvCache }] of gathering.entries()) {
    // 256 tokens of 704 columns, in f32.
    expect(scratch - (plain[rank]?.scratch ?? 0)).toBeGreaterThanOrEqual(256 * 704 * 4);
    expect(exchange - (plain[rank]?.exchange ?? 0)).toBeGreaterThanOrEqual(256 * 704 * 4);
    expect(kvCache).toBe(plain[rank]?.kvCache ?? 0);
  }
  const weights = (ranks: readonly { weights: number }[]) => ranks.reduce((sum, rank) => sum + rank.weights, 0);
  expect(weights(gathering)).toBe(weights(plain));
});

test("a model of more KV heads than ranks: each rank stores whole ones, all tokens of each", () => {
  const many = { ...model, config: { ...model.config, kvHeads: 8 } };
  const memory = (options: object) => planMemory(many, { world: 4, capacity: 4096, backend: "wasm", ...options });
  const sharded = resolveOptions(many, { world: 4, capacity: 4096 }).rank;
  expect([sharded.sizes, sharded.numBlocks]).toEqual([{ world: 4, dcp: 1, kvLayout: "sharded" }, 256]);
  const bytes = (options: object) => memory(options).ranks.map(({ kvCache }) => kvCache);
  // As much as when all ranks split the tokens of all heads.
  expect(bytes({})).toEqual(bytes({ kvHeads: "replicated" }));
});

test("there is room for as many tokens as the model was made for, or as fit", () => {
  expect(resolve({ world: 4 }).rank.numBlocks).toBe(16384 / 16 / 2);
  expect(resolve({ world: 4, kvHeads: "replicated" }).rank.numBlocks).toBe(16384 / 16 / 4);
  const { rank } = resolve({ world: 2, texts: 1000, backend: "wasm" });
  const tokens = (rank.numBlocks / 1000) * 16;
  expect(tokens).toBeLessThan(16384);
  // Keys and values of 2 heads of 64 in 8 layers, in f32, in two memories of 4 GiB.
  expect(1000 * tokens * 2 * 8 * 2 * 64 * 4).toBeGreaterThan(0.9 * 2 * 2 ** 32);
});

test("what does not fit is refused with what would make it fit", () => {
  const refused = (options: object): string => {
    try {
      resolve({ backend: "wasm", capacity: 16384, ...options });
    } catch (error) {
      if (error instanceof UnfitOptions) return error.problem;
      throw error;
    }
    return "";
  };
  expect(refused({ world: 1, texts: 40 })).toMatch(
    /: take `kvDtype` f16, `kvDtype` i8, `world` 2 or a `capacity` of at most \d+\.$/,
  );
  expect(refused({ world: 1, texts: 100, kvDtype: "f16" })).toMatch(/: take `kvDtype` i8, `world` 2, `world` 4 or a/);
  // Each way that is named is one.
  const [, context = ""] = /at most (\d+)/.exec(refused({ world: 1, texts: 40 })) ?? [];
  expect(refused({ world: 1, texts: 40, capacity: Number(context) })).toBe("");
  expect(refused({ world: 1, texts: 40, capacity: Number(context) + 1 })).not.toBe("");
  for (const way of [{ world: 1, kvDtype: "f16" }, { world: 1, kvDtype: "i8" }, { world: 2 }]) {
    expect(refused({ texts: 40, ...way })).toBe("");
  }
});

test("large steps, large chunks and many texts are what is to be less where they take too much", () => {
  const advice = (options: object): string => {
    try {
      resolve({ world: 1, backend: "wasm", capacity: 1, ...options });
    } catch (error) {
      if (error instanceof UnfitOptions) return error.problem;
      throw error;
    }
    return "";
  };
  const most = { maxStepTokens: 1 << 20 };
  expect(advice(most)).toMatch(/with its scratch memory [\d.]+ GiB, .*: take .*`maxStepTokens` 256\.$/);
  expect(advice({ ...most, maxStepTokens: 256 })).toBe("");
  const chunks = { world: 2, dcp: 2, prefillChunk: 1 << 21 };
  for (const backend of ["auto", "webgpu"]) {
    expect(advice({ ...chunks, backend })).toMatch(/: take .*`prefillChunk` 256\.$/);
  }
  expect(advice({ prefillChunk: 256 })).toBe("");
  expect(advice({ texts: 1 << 20 })).toMatch(/: take .*fewer texts at a time\.$/);
});

test("chunks of prefills take room where a GPU may gather them, and nowhere else", () => {
  const ranks = (options: object) => planOptions(model, { world: 2, dcp: 2, capacity: 1024, ...options }).plan.ranks;
  for (const backend of ["wasm", "reference"]) {
    expect(ranks({ backend, prefillChunk: 512 })).toEqual(ranks({ backend }));
  }
  for (const gpu of [{ backend: "webgpu" }, { backend: "auto" }, { backend: "auto", sharedGpu: true }]) {
    const [scratch, more] = [ranks(gpu)[0], ranks({ ...gpu, prefillChunk: 512 })[0]];
    expect(more?.scratch).toBeGreaterThan(scratch?.scratch ?? 0);
    expect(more?.exchange).toBeGreaterThan(scratch?.exchange ?? 0);
  }
});

test("where a GPU is found there is room for the KV cache in memory, too, in case it cannot be used", () => {
  const gpu = (options: object) => {
    const { rank } = resolveOptions(model, { world: 2, capacity: 16384, ...options }, 1);
    return [rank.canFallBack, rank.memory.cacheBytes > 2 ** 26, rank.memory.ownBytes];
  };
  expect(gpu({})).toEqual([true, true, 0]);
  expect(gpu({ softwareVulkan: true, sharedGpu: true })).toEqual([true, true, 0]);
  // There is no other backend to fall back on, or the GPU's memory is larger.
  expect(gpu({ backend: "webgpu" })).toEqual([false, false, 0]);
  expect(gpu({ softwareVulkan: true })).toEqual([false, false, 0]);
  expect(gpu({ texts: 200 })).toEqual([false, false, 0]);
  const { rank } = resolveOptions(model, { world: 2, capacity: 16384 }, 0);
  expect([rank.canFallBack, rank.memory.cacheBytes]).toEqual([true, 0]);
});

test("a context that a GPU is to hold is among those that fit, though no memory of the host would hold it", () => {
  const plan = planMemory(model, { world: 1, backend: "webgpu", texts: 100, capacity: 16384 });
  expect([plan.problem, plan.context, plan.mostContext]).toEqual([undefined, 16384, 16384]);
});

test("steps have room for every text and its draft; a sample is cut at 256 tokens", () => {
  const calibration = Array.from({ length: 300 }, (_, id) => id);
  const { rank } = resolve({
    ...least,
    texts: 3,
    maxDraft: 7,
    maxStepTokens: 8,
    kvDtype: "i8",
    kvScales: "static",
    calibration,
  });
  // Three texts of two blocks each.
  expect([rank.maxLogitRows, rank.maxStepTokens, rank.calibration.length, rank.numBlocks]).toEqual([24, 24, 256, 6]);
});

test.each([
  [undefined, "`options` must be an object with world, but is undefined"],
  [{ capacity: 64 }, "`world` must be an integer from 1"],
  [{ world: 2, capacity: 0 }, "`capacity` must be an integer from 1"],
  [{ ...least, onLoad: 1 }, "`onLoad` must be a function, but is 1"],
  [{ ...least, dcp: null }, "`dcp` must be an integer from 1"],
  [{ ...least, maxDraft: -1 }, "`maxDraft` must be an integer from 0"],
  [{ ...least, blockSize: 2 ** 31 }, "`blockSize` must be an integer from 1 to 2147483647, but is 2147483648"],
  [{ ...least, texts: "2" }, "`texts` must be an integer from 1"],
  [{ ...least, backend: "cuda" }, "`backend` must be one of webgpu, wasm, reference, auto"],
  [{ ...least, combine: "A2A" }, "`combine` must be one of ag-rs, a2a, one-shot, auto"],
  [{ ...least, kvDtype: "fp8" }, "`kvDtype` must be one of f32, f16, bf16, f8e4m3, i8"],
  [{ ...least, weights: "int8" }, "`weights` must be one of stored, i8"],
  [{ ...least, kvHeads: {} }, "`kvHeads` must be one of replicated, sharded, auto"],
  [{ ...least, kvDtype: "i8", kvScales: "head" }, '`kvScales` must be "per-token" or "static"'],
  [{ ...least, kvScales: "static" }, "`kvScales` must be left out for a kvDtype of f32"],
  [{ ...least, kvDtype: "i8", kvScales: "static", calibration: [4096] }, "`calibration` must be from 0 to 4095"],
])("refuses %j", (options, message) => {
  expect(() => resolve(options)).toThrow(ArgumentError);
  expect(() => resolve(options)).toThrow(message);
});

test.each([
  [{ ...least, world: 9 }, "`world` must be at most the model's 8 query heads"],
  [{ ...least, dcp: 3 }, "`dcp` must divide `world` 4"],
  [{ ...least, world: 3, kvHeads: "sharded" }, "`kvHeads` sharded is impossible: `dcp` 3 makes one group"],
  [{ ...least, capacity: 16385 }, "was made for 16384"],
  [
    { ...least, texts: 100_000, capacity: 16384 },
    /the KV cache takes [\d.]+ GiB of each of 4 ranks, but a memory holds 4.00 GiB/,
  ],
  [{ ...least, kvDtype: "i8", kvScales: "static" }, "needs calibration tokens"],
])("finds that %j does not fit", (options, message) => {
  expect(() => resolve(options)).toThrow(UnfitOptions);
  expect(() => resolve(options)).toThrow(message);
});
