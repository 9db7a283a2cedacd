import { expect, test } from "bun:test";
import { ArgumentError } from "@lockstep/tensor";
import { MODEL_FOLDER } from "../../test/shipped-folder.ts";
import { UnfitOptions } from "../errors.ts";
import { openModel } from "../model/model.ts";
import { type GeneratorOptions, resolveOptions } from "./generator-options.ts";

const model = openModel(MODEL_FOLDER);
const least = { world: 4, capacity: 64 } as const;
const resolve = (options: unknown) => resolveOptions(model, options as GeneratorOptions);

test("what is left out is filled in", () => {
  const { rank, texts, maxDraft, deadlineMs } = resolve(least);
  expect([texts, maxDraft, deadlineMs]).toEqual([1, 0, 120_000]);
  expect(rank.sizes).toEqual({ world: 4, dcp: 4, kvLayout: "replicated" });
  expect(rank).toMatchObject({ backend: "auto", combine: "auto", kvDtype: "f32", calibration: [], blockSize: 16 });
  expect(rank.weights).toBe("stored");
  // 64 tokens in blocks of 16, dealt to four ranks.
  expect([rank.numBlocks, rank.maxStepTokens, rank.maxLogitRows, rank.interleave]).toEqual([1, 256, 1, 1]);
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
  expect([rank.maxLogitRows, rank.maxStepTokens, rank.calibration.length, rank.numBlocks]).toEqual([24, 24, 256, 3]);
});

test.each([
  [undefined, "`options` must be an object with world and capacity, but is undefined"],
  [{ capacity: 64 }, "`world` must be an integer from 1"],
  [{ world: 2 }, "`capacity` must be an integer from 1"],
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
  [{ ...least, kvHeads: "sharded" }, "`kvHeads` sharded is impossible"],
  [{ ...least, capacity: 16385 }, "was made for 16384"],
  [{ ...least, texts: 100_000, capacity: 16384 }, "one shared memory holds"],
  [{ ...least, kvDtype: "i8", kvScales: "static" }, "needs calibration tokens"],
])("finds that %j does not fit", (options, message) => {
  expect(() => resolve(options)).toThrow(UnfitOptions);
  expect(() => resolve(options)).toThrow(message);
});
