import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Arena, SharedHeap } from "@lockstep/tensor";
import { openGpuDevice } from "../../device/gpu-device.ts";
import { hasMatrixUnits, MATRIX_FEATURES } from "../../device/matrix-units.ts";
import { openDawn } from "../../device/dawn.ts";
import { GpuTensor } from "../../gpu-tensor.ts";
import type { Operand } from "../../operand.ts";
import { expectClose, type Tolerance } from "../../testing/close.ts";
import { Random } from "../../testing/random.ts";
import { webgpuBackendOn } from "../../backends/webgpu-backend.ts";
import { type AttentionRow, buildAttention } from "./cases.ts";
import { matrixAttentionSource } from "./matrix-attention.ts";
import {
  type MatrixAttentionProblem,
  matrixAttentionShape,
  matrixWorkgroupBytes,
  matrixWorkgroupsWanted,
} from "./matrix-attention-shape.ts";
import { partialAttentionReference } from "./reference.ts";
import { separateMatrices } from "./separate-matrices.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const backend = webgpuBackendOn(heap, await openGpuDevice({ adapter: "software", matrices: "emulated" }));
afterAll(() => backend.close());

/** Weights are rounded to f16. */
const TOLERANCE: Tolerance = { absolute: 5e-4, relative: 1e-3 };

const ROWS: readonly AttentionRow[] = [
  { lengths: [113, 54, 1], heads: [8, 2], keyDim: 64, blockSize: 16, dtype: "f16" },
  { lengths: [113, 5, 3], heads: [16, 1], keyDim: 32, valueDim: 48, blockSize: 7, dtype: "f16", queryDType: "f16" },
  { lengths: [600], heads: [10, 1], keyDim: 64, blockSize: 64, dtype: "f16", softcap: 3, window: 570 },
  { lengths: [40, 0, 33], heads: [16, 1], keyDim: 192, valueDim: 128, blockSize: 16, dtype: "f16", mla: true },
  {
    lengths: [70],
    heads: [37, 1],
    keyDim: 64,
    valueDim: 32,
    blockSize: 1,
    dtype: "f16",
    queryDType: "bf16",
    mla: true,
  },
  { lengths: [40, 33, 5], queries: [4, 1, 3], heads: [4, 1], keyDim: 16, dtype: "f16", blockSize: 16, padding: true },
  { lengths: [200], heads: [5, 2], keyDim: 32, blockSize: 8, dtype: "f16", headGroup: { size: 4, offset: 1 } },
  {
    lengths: [300, 64],
    heads: [8, 2],
    keyDim: 32,
    blockSize: 8,
    dtype: "f16",
    shard: { index: 1, count: 2, interleave: 4 },
  },
  {
    lengths: [50, 33],
    heads: [50, 1],
    keyDim: 192,
    valueDim: 128,
    blockSize: 64,
    dtype: "f16",
    queryDType: "f16",
    mla: true,
  },
  { lengths: [90, 7], heads: [6, 1], keyDim: 80, valueDim: 48, blockSize: 32, dtype: "f16" },
  // Sinks: the largest, the smallest or none of the scores; over an empty shard, padding, splits, several tokens.
  {
    lengths: [113, 0, 6],
    heads: [8, 2],
    keyDim: 32,
    blockSize: 16,
    dtype: "f16",
    padding: true,
    sinks: [0.5, -3, 30, Number.NEGATIVE_INFINITY, 2, -2, 60, -60],
  },
  {
    lengths: [700, 3],
    heads: [5, 1],
    keyDim: 32,
    blockSize: 16,
    dtype: "f16",
    padding: true,
    sinks: [1, -1, 40, Number.NEGATIVE_INFINITY, 3],
  },
  {
    lengths: [40, 9],
    queries: [3, 2],
    heads: [16, 1],
    keyDim: 48,
    valueDim: 32,
    blockSize: 8,
    dtype: "f16",
    queryDType: "f16",
    mla: true,
    softcap: 5,
    window: 12,
    shard: { index: 0, count: 2, interleave: 4 },
    sinks: Array.from({ length: 16 }, (_, head) => head - 8),
  },
  {
    lengths: [5, 2],
    heads: [4, 1],
    keyDim: 16,
    blockSize: 16,
    dtype: "f16",
    shard: { index: 7, count: 8, interleave: 1 },
    sinks: [1, 2, -1, 0],
  },
];

function onGpu(source: Operand): GpuTensor {
  const target = backend.empty(source.dtype, source.shape);
  if (!(target instanceof GpuTensor) || source instanceof GpuTensor) throw new TypeError("from the heap to the GPU");
  void backend.upload(source, target);
  return target;
}

describe("the kernels for matrix units, emulated, against float64", () => {
  for (const [index, row] of ROWS.entries()) {
    test(`row ${index}: ${JSON.stringify(row)}`, async () => {
      const arenas = [new Arena(heap, 2 << 20), new Arena(heap, 2 << 20)] as const;
      const expected = buildAttention(arenas[0], row, new Random(77 + index));
      const actual = buildAttention(arenas[1], row, new Random(77 + index));
      partialAttentionReference(expected);
      const keyCache = onGpu(actual.keyCache);
      const valueCache = row.mla ? keyCache.slice(3, 0, row.valueDim ?? 0) : onGpu(actual.valueCache);
      const before = backend.context.entries.length;
      await backend.partialAttention({ ...actual, keyCache, valueCache });
      const compiled = backend.context.entries.slice(before).filter((key) => key.includes("attention"));
      expect(compiled.filter((key) => !key.startsWith("matrix-attention emulated"))).toEqual([]);
      expectClose("out", actual.out, expected.out, TOLERANCE);
      expectClose("lse", actual.lse, expected.lse, TOLERANCE);
      for (const arena of arenas) arena.close();
    });
  }

  test("scores that grow with every tile, by far more than f16 holds", async () => {
    const row: AttentionRow = { lengths: [160], heads: [8, 1], keyDim: 32, blockSize: 16, dtype: "f16", scale: 1 };
    const arenas = [new Arena(heap, 2 << 20), new Arena(heap, 2 << 20)] as const;
    const [expected, actual] = arenas.map((arena) => {
      const args = buildAttention(arena, row, new Random(5));
      // Scores are 1.5 times the token's index, or minus that.
      const first = (value: number): number[] => Array.from({ length: 32 }, (_, column) => (column === 0 ? value : 0));
      for (let token = 0; token < 160; token++) {
        const block = args.blockTable.i32[Math.floor(token / 16)] ?? 0;
        args.keyCache
          .select(0, block)
          .select(0, token % 16)
          .select(0, 0)
          .set(first(token));
      }
      for (let head = 0; head < 8; head++) {
        args.query
          .select(0, 0)
          .select(0, head)
          .set(first(head % 2 === 0 ? 1.5 : -1.5));
      }
      return args;
    });
    if (expected === undefined || actual === undefined) throw new Error("two sets of operands");
    partialAttentionReference(expected);
    const [keyCache, valueCache] = [onGpu(actual.keyCache), onGpu(actual.valueCache)];
    await backend.partialAttention({ ...actual, keyCache, valueCache });
    expectClose("out", actual.out, expected.out, TOLERANCE);
    expectClose("lse", actual.lse, expected.lse, TOLERANCE);
    for (const arena of arenas) arena.close();
  });

  test("the same bits on every run", async () => {
    const arena = new Arena(heap, 2 << 20);
    for (const row of ROWS.filter(({ sinks }, index) => index === 0 || sinks !== undefined)) {
      const args = buildAttention(arena, row, new Random(9));
      const keyCache = onGpu(args.keyCache);
      const valueCache = row.mla ? keyCache.slice(3, 0, row.valueDim ?? 0) : onGpu(args.valueCache);
      const runs: string[] = [];
      for (let run = 0; run < 3; run++) {
        await backend.partialAttention({ ...args, keyCache, valueCache });
        runs.push([args.out, args.lse].map((result) => result.toNumbers().join()).join());
      }
      expect(new Set(runs).size).toBe(1);
    }
    arena.close();
  });
});

const LIMITS = { storageBytes: 49152, threads: 1024 };
const problem = (change: Partial<MatrixAttentionProblem>): MatrixAttentionProblem => ({
  keyDim: 128,
  valueDim: 128,
  heads: 8,
  sharedValues: false,
  queryDType: "f32",
  queryUnit: 4,
  blockSize: 16,
  softcap: false,
  sinks: false,
  ...change,
});
const MLA = { keyDim: 576, valueDim: 512, sharedValues: true } as const;

const PROBLEMS = [
  problem({ heads: 4 }),
  problem({ heads: 8, blockSize: 1 }),
  problem({ heads: 16, queryDType: "f16", sinks: true }),
  problem({ heads: 16, keyDim: 64, valueDim: 64, softcap: true }),
  problem({ heads: 8, keyDim: 256, valueDim: 256 }),
  problem({ heads: 8, keyDim: 80, valueDim: 80, queryUnit: 1 }),
  problem({ heads: 16, ...MLA }),
  problem({ heads: 16, ...MLA, queryDType: "f16", blockSize: 64 }),
  problem({ heads: 128, ...MLA, queryDType: "bf16", blockSize: 64 }),
  problem({ heads: 128, ...MLA, queryDType: "f32" }),
];

describe("shapes", () => {
  test("every problem has one that a workgroup of an H200 has room for", () => {
    for (const item of PROBLEMS) {
      const shape = matrixAttentionShape(item, 2 ** 30, LIMITS);
      if (shape === undefined) throw new Error(JSON.stringify(item));
      expect(matrixWorkgroupBytes(item, shape)).toBeLessThanOrEqual(LIMITS.storageBytes);
      expect(matrixWorkgroupsWanted(item, shape) % 132).toBe(0);
    }
  });

  test("none for dims that are no multiples of 16, few heads, short tables or little workgroup memory", () => {
    const shape = (change: Partial<MatrixAttentionProblem>, keys = 2 ** 30, storageBytes = 49152): unknown =>
      matrixAttentionShape(problem(change), keys, { ...LIMITS, storageBytes });
    expect(shape({})).toBeDefined();
    expect(shape({ keyDim: 120 })).toBeUndefined();
    expect(shape({ valueDim: 8 })).toBeUndefined();
    expect(shape({ heads: 3 })).toBeUndefined();
    expect(shape({}, 1000)).toBeUndefined();
    expect(shape({ heads: 16, ...MLA }, 1000)).toBeDefined();
    expect(shape({}, 2 ** 30, 4000)).toBeUndefined();
  });
});

test("every variant is valid WGSL for a device with matrix units", async () => {
  const dawn = await openDawn(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
  const adapter = await dawn.gpu.requestAdapter();
  if (adapter === null) throw new Error("the null backend has an adapter");
  const device = await adapter.requestDevice({ requiredFeatures: [...MATRIX_FEATURES] });
  for (const item of PROBLEMS) {
    const shape = matrixAttentionShape(item, 2 ** 30, LIMITS);
    if (shape === undefined) throw new Error(JSON.stringify(item));
    for (const split of [false, true]) {
      const { key, wgsl } = matrixAttentionSource("native", item, shape, split);
      device.pushErrorScope("validation");
      device.createShaderModule({ code: wgsl() });
      const error = await device.popErrorScope();
      expect({ key, error: error?.message }).toEqual({ key, error: undefined });
    }
  }
  expect(hasMatrixUnits(device.features, { ...device.adapterInfo, subgroupMinSize: 32, subgroupMaxSize: 32 })).toBe(
    false,
  );
  device.destroy();
  await device.lost;
  await dawn.release();
});

test("a device has matrix units only with both products and subgroups of 32 threads", () => {
  const features = new Set(MATRIX_FEATURES) as unknown as GPUSupportedFeatures;
  const product = { componentType: "f16", resultComponentType: "f32", M: 16, N: 16, K: 16 };
  const info = { subgroupMinSize: 32, subgroupMaxSize: 32, subgroupMatrixConfigs: [product, { ...product, N: 8 }] };
  const has = (change: object, of = features): boolean =>
    hasMatrixUnits(of, { ...info, ...change } as unknown as GPUAdapterInfo);
  expect(has({})).toBe(true);
  expect(has({ subgroupMinSize: 8 })).toBe(false);
  expect(has({ subgroupMatrixConfigs: [product] })).toBe(false);
  expect(has({ subgroupMatrixConfigs: undefined })).toBe(false);
  expect(has({}, new Set(["subgroups"]) as unknown as GPUSupportedFeatures)).toBe(false);
  expect(hasMatrixUnits(features, undefined)).toBe(false);
});

test("arrays of matrices become variables", () => {
  const source = "var a: array<Left, COUNT>; a[0u * COUNT + 1u] = f(a[0u]); b[i] = a[1u * 1u];";
  expect(separateMatrices(source, { COUNT: 2 })).toBe("var a_0 = Left(); var a_1 = Left(); a_1 = f(a_0); b[i] = a_1;");
  expect(() => separateMatrices("var a: array<Left, 2>; a[i] = x;", {})).toThrow(RangeError);
});
