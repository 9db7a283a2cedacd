import { expect, test } from "bun:test";
import { MODEL_FOLDER } from "../../test/shipped-folder.ts";
import { readModelConfig } from "../model/config.ts";
import { UnfitOptions } from "../errors.ts";
import { blocksPerRank, heapBytesPerRank } from "./memory-plan.ts";

const config = readModelConfig(MODEL_FOLDER);
const stored = { usual: "bf16", others: new Map() } as const;
const base = {
  sizes: { world: 4, dcp: 4, kvLayout: "replicated" },
  kvDtype: "f32",
  blockSize: 16,
  capacity: 1000,
  maxStepTokens: 256,
  maxLogitRows: 1,
  texts: 1,
  calibrationTokens: 0,
  prefillChunk: 0,
  weights: "stored",
} as const;

test.each([
  [1, 1],
  [64, 1],
  [65, 2],
  [1000, 16],
])("%d tokens over 4 ranks in blocks of 16 need %d blocks each", (capacity, blocks) => {
  expect(blocksPerRank({ ...base, capacity })).toBe(blocks);
});

test("more ranks need less each, longer texts and wider KV more", () => {
  const bytes = (changes: object): number => heapBytesPerRank(config, stored, { ...base, ...changes });
  const alone = { sizes: { world: 1, dcp: 1, kvLayout: "replicated" } };
  expect(bytes({})).toBeLessThan(bytes(alone));
  const longer = bytes({ ...alone, capacity: 1000 + 8192 }) - bytes(alone);
  // Keys and values of 2 heads of 64 in 8 layers, in f32, within rounding to a MiB.
  expect(Math.abs(longer - 8192 * 2 * 8 * 2 * 64 * 4)).toBeLessThanOrEqual(2 << 20);
  expect(bytes({ ...alone, capacity: 9192, kvDtype: "bf16" })).toBeLessThan(bytes({ ...alone, capacity: 9192 }));
});

test("texts have blocks of their own; a chunk of prefill and a sample to calibrate by take room", () => {
  expect(blocksPerRank({ ...base, capacity: 65, texts: 3 })).toBe(6);
  const bytes = (changes: object): number => heapBytesPerRank(config, stored, { ...base, ...changes });
  expect(bytes({ prefillChunk: 4096 })).toBeGreaterThan(bytes({}));
  // Scales per token do too.
  const long = { kvDtype: "i8", capacity: 65536 };
  expect(bytes(long)).toBeGreaterThan(bytes({ ...long, calibrationTokens: 1 }));
  expect(bytes({ kvDtype: "i8", capacity: 64, calibrationTokens: 8192 })).toBeGreaterThan(
    bytes({ kvDtype: "i8", capacity: 64 }),
  );
});

test("weights take what they are stored in, or 9 bits an element in int8", () => {
  const wide = { ...config, layers: 16, hiddenSize: 1024, intermediateSize: 4096 };
  const one = { ...base, sizes: { world: 1, dcp: 1, kvLayout: "replicated" } } as const;
  const matrices = 1024 * (4096 + 16 * (3 * 4096 + 20 * 64));
  const bytes = heapBytesPerRank(wide, stored, one);
  const inF32 = heapBytesPerRank(wide, { ...stored, usual: "f32" }, one);
  expect(Math.abs(inF32 - bytes - 2 * matrices)).toBeLessThanOrEqual(2 << 20);
  // Besides them, room to quantise weights and inputs.
  const inInt8 = heapBytesPerRank(wide, stored, { ...one, weights: "i8" });
  expect(Math.abs(bytes - inInt8 - 0.875 * matrices)).toBeLessThanOrEqual(6 << 20);
});

test("refuses what one shared memory cannot hold", () => {
  const large = { ...config, layers: 32, hiddenSize: 4096, intermediateSize: 11008, queryHeads: 32, headDim: 128 };
  expect(() => heapBytesPerRank(large, stored, base)).toThrow(UnfitOptions);
  expect(() => heapBytesPerRank(large, stored, base)).toThrow("take a smaller model or a shorter text");
});
