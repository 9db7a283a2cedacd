import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Combine } from "@lockstep/attention";
import { openWorld } from "@lockstep/dist-groups";
import type * as program from "./attention-program.ts";
import type { TestBackend } from "./test-backend.ts";
import { expectNear, type FeatureCase, prepareCase } from "./feature-cases.ts";

setDefaultTimeout(180_000);

const CASES: readonly FeatureCase[] = [
  {
    name: "sinks with window, softcap, scale and several query tokens",
    steps: [
      [13, 0, 5],
      [3, 1, 1],
      [1, 4, 0],
    ],
    queryHeads: 8,
    kvHeads: 2,
    keyDim: 16,
    blockSize: 4,
    sinks: [0.5, -2, 3, 0, 1, -1, 8, -8],
    options: { interleave: 2, window: 6, softcap: 4, scale: 0.5 },
  },
  {
    name: "drafts of several tokens, ragged, interleave 1, over prompts of 0 to 40 tokens",
    steps: [
      [40, 0, 7, 1],
      [5, 1, 0, 3],
      [1, 8, 2, 1],
    ],
    queryHeads: 4,
    kvHeads: 4,
    keyDim: 8,
    blockSize: 4,
    options: {},
  },
  {
    name: "drafts of several tokens, interleave 4 of blocks of 8, heads that do not divide",
    steps: [
      [19, 3],
      [4, 6],
      [7, 1],
    ],
    queryHeads: 7,
    kvHeads: 1,
    keyDim: 5,
    valueDim: 9,
    kvDtype: "f16",
    blockSize: 8,
    options: { interleave: 4 },
  },
  {
    name: "sequences of 0, 1, 7 and 20000 tokens in one step",
    steps: [
      [0, 1, 7, 20_000],
      [1, 2, 1, 1],
    ],
    fills: 1,
    queryHeads: 2,
    kvHeads: 1,
    keyDim: 4,
    blockSize: 64,
    options: { interleave: 16 },
  },
  {
    name: "sinks over f16 keys, LSE in base 2",
    steps: [[9], [1]],
    queryHeads: 3,
    kvHeads: 1,
    keyDim: 7,
    valueDim: 5,
    kvDtype: "f16",
    blockSize: 3,
    sinks: [1, 0, -1],
    options: { lseBase: "2" },
  },
  {
    name: "MLA: 16 heads over one latent head of 576, values 512",
    steps: [
      [11, 2],
      [2, 1],
    ],
    queryHeads: 16,
    kvHeads: 1,
    keyDim: 576,
    valueDim: 512,
    kvDtype: "bf16",
    blockSize: 4,
    options: { mla: true, interleave: 4 },
  },
  {
    name: "MLA of odd sizes, query replicated",
    steps: [
      [7, 3],
      [1, 1],
    ],
    queryHeads: 5,
    kvHeads: 1,
    keyDim: 19,
    valueDim: 13,
    blockSize: 2,
    options: { mla: true, queryReplicated: true },
  },
  {
    name: "f8e4m3 KV with a scale per head, f8 gathered queries, sinks, window",
    steps: [
      [10, 3],
      [2, 1],
    ],
    queryHeads: 6,
    kvHeads: 2,
    keyDim: 20,
    valueDim: 12,
    kvDtype: "f8e4m3",
    blockSize: 4,
    sinks: [0, 1, 2, -1, -2, 0.5],
    options: {
      kvScales: { key: [0.02, 0.05], value: [0.01, 3] },
      gatherDtype: "f8e4m3",
      queryScale: 0.3,
      window: 7,
    },
  },
  {
    name: "i8 KV with one scale, softcap",
    steps: [
      [9, 4],
      [1, 1],
    ],
    queryHeads: 8,
    kvHeads: 8,
    keyDim: 16,
    kvDtype: "i8",
    blockSize: 2,
    options: { kvScales: [{ key: 0.03, value: 0.025 }], softcap: 5, interleave: 2 },
  },
  {
    name: "MLA in f8e4m3",
    steps: [
      [9, 4],
      [1, 2],
    ],
    queryHeads: 4,
    kvHeads: 1,
    keyDim: 36,
    valueDim: 32,
    kvDtype: "f8e4m3",
    blockSize: 2,
    options: { kvScales: { key: 0.01 }, mla: true },
  },
  {
    name: "i8 KV with a scale a token, sinks, window",
    steps: [
      [10, 3],
      [2, 1],
    ],
    queryHeads: 6,
    kvHeads: 2,
    keyDim: 20,
    valueDim: 12,
    kvDtype: "i8",
    blockSize: 4,
    sinks: [0, 1, 2, -1, -2, 0.5],
    options: { window: 7, interleave: 2 },
  },
  {
    name: "f8e4m3 KV with a scale a token, f8 queries, softcap",
    steps: [
      [9, 4],
      [1, 1],
    ],
    queryHeads: 8,
    kvHeads: 8,
    keyDim: 16,
    kvDtype: "f8e4m3",
    blockSize: 2,
    options: { kvScales: "per-token", softcap: 5, gatherDtype: "f8e4m3", queryScale: 0.3 },
  },
  {
    name: "MLA in i8 with a scale a token",
    steps: [
      [9, 4],
      [1, 2],
    ],
    queryHeads: 4,
    kvHeads: 1,
    keyDim: 36,
    valueDim: 32,
    kvDtype: "i8",
    blockSize: 2,
    options: { mla: true },
  },
];

const COMBINES: readonly (Combine | "auto")[] = ["ag-rs", "a2a", "one-shot", "auto"];

async function checkFeatures(size: number, backend: TestBackend, repeats: number, chosen = /./): Promise<void> {
  await using world = await openWorld<typeof program>({
    size,
    program: new URL("./attention-program.ts", import.meta.url),
    options: { backend },
    deadlineMs: 60_000,
  });
  for (const [index, item] of CASES.entries()) {
    if (!chosen.test(item.name)) continue;
    const prepared = prepareCase(item, world.heap, 100 + index);
    const { replay, out, lse } = prepared;
    const tolerance = item.kvDtype === undefined || item.kvDtype === "f32" ? 1e-5 : 1e-4;
    // Whatever the combine, and each time: the same bits. (float64 rounds a merge once, ag-rs often.)
    let first: Buffer | undefined;
    for (const combine of COMBINES) {
      for (let repeat = 0; repeat < repeats; repeat++) {
        out.fill(Number.NaN);
        lse.fill(Number.NaN);
        await world.call("replay", [{ ...replay, options: { ...replay.options, combine } }]);
        const bits = Buffer.concat([out.bytes, lse.bytes]);
        if (backend === "reference" && combine !== "a2a") continue;
        first ??= bits;
        expect(Buffer.compare(bits, first)).toBe(0);
      }
      expectNear(`${item.name}, ${combine}, out`, out, prepared.expectedOut, tolerance);
      expectNear(`${item.name}, ${combine}, lse`, lse, prepared.expectedLse, tolerance);
    }
    prepared.free();
  }
}

/**
 * On software Vulkan compiling takes seconds for each head size: the cases whose kernels differ in more than constants.
 */
const ON_GPU = /sinks with window|MLA of odd sizes|f8 gathered|20000|interleave 4 of blocks|a scale a token/;

describe("attention features, every case and combine", () => {
  test.each([1, 2, 3, 4, 8])("wasm, %d ranks", (size) => checkFeatures(size, "wasm", 3));
  test.each([1, 2, 3, 4, 8])("wasm, caches and operands in memories of the ranks' own, %d ranks", (size) =>
    checkFeatures(size, "wasm own", 1),
  );
  test.each([1, 3, 8])("reference, %d ranks", (size) => checkFeatures(size, "reference", 1));
  test.each(["webgpu", "webgpu shared"] as const)("%s on software Vulkan, 3 ranks", (backend) =>
    checkFeatures(3, backend, 1, ON_GPU),
  );
  test("webgpu shared on software Vulkan, operands in memories of the ranks' own, 3 ranks", () =>
    checkFeatures(3, "webgpu shared own", 1, /sinks with window|MLA of odd sizes/));
});
