// What loading takes and leaves: bytes, in every dtype; nothing after a failure; the same int8 weights on every world.
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DType, HeapExhausted, SafetensorsError, SharedHeap, Tensor, writeSafetensors } from "@lockstep/tensor";
import { RandomStream } from "../../../../tests/random.ts";
import { ModelError } from "../errors.ts";
import { Layers } from "../layers/layers.ts";
import type { Weight, WeightKind } from "../layers/weight.ts";
import { modelFolder } from "./model-files.ts";
import { findArchitecture } from "./architectures.ts";
import { Checkpoint, expectedShapes } from "./checkpoint.ts";
import type { ModelConfig } from "./config.ts";
import { type ParallelSizes, rankShare } from "./tensor-parallel.ts";
import { loadingScratchBytes, weightBytes } from "./weight-bytes.ts";
import { type LoadOptions, loadWeights, type ModelWeights } from "./weights.ts";

const CONFIG: ModelConfig = {
  architecture: "Qwen3ForCausalLM",
  layers: 2,
  hiddenSize: 64,
  intermediateSize: 250,
  queryHeads: 8,
  kvHeads: 2,
  headDim: 32,
  vocabularySize: 301,
  normEpsilon: 1e-5,
  attentionBias: "qkvo",
  queryKeyNorm: true,
  windows: [null, null],
  ropeTheta: 10000,
  maxPositions: 64,
  tiedEmbeddings: false,
  endTokens: [],
};
const KINDS = ["stored", "i8"] as const satisfies readonly WeightKind[];
const architecture = findArchitecture(CONFIG.architecture) ?? expect.unreachable();
const folder = mkdtempSync(join(tmpdir(), "lockstep-load-"));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, "model.safetensors");
const NAMES = inLoadingOrder(CONFIG).map(([name]) => name);

/** Tensors in the order in which they are loaded. */
function inLoadingOrder(config: ModelConfig): (readonly [string, readonly number[]])[] {
  const last = [architecture.finalNorm, architecture.output];
  const shapes = [...expectedShapes(architecture, config)];
  return [...shapes.filter(([name]) => !last.includes(name)), ...shapes.filter(([name]) => last.includes(name))];
}

/** Writes a checkpoint; `dtypeOf` says what each tensor is stored in, `damage` changes one before it is written. */
function write(config: ModelConfig, dtypeOf: (index: number) => DType, damage?: { name: string; value: number }): void {
  const heap = SharedHeap.create(32 << 20);
  const random = new RandomStream(3);
  const tensors = inLoadingOrder(config).map(([name, shape], index) => {
    const length = shape.reduce((product, size) => product * size, 1);
    const values = Float64Array.from({ length }, () => random.next() * 2 - 1);
    if (damage?.name === name) values[length - 1] = damage.value;
    return [name, Tensor.from(heap, dtypeOf(index), shape, values)] as const;
  });
  writeSafetensors(path, tensors);
}

const MIXED: readonly DType[] = ["bf16", "f32", "f16", "bf16"];
const mixed = (index: number): DType => MIXED[index % MIXED.length] ?? "bf16";
const sizesOf = (world: number): ParallelSizes => ({ world, dcp: world, kvLayout: "replicated" });
const TENSORS = 3 + 7 * CONFIG.layers + 8 * CONFIG.layers;

function loadAlone(config: ModelConfig, world: number, rank: number, options: LoadOptions): ModelWeights {
  const heap = SharedHeap.create(8 << 20);
  using checkpoint = Checkpoint.open(modelFolder("test", folder), config);
  return loadWeights(checkpoint, config, rankShare(sizesOf(world), rank, config), Layers.open(heap), heap, options);
}

describe.each(KINDS)("%s", (weights) => {
  test.each([
    ["f32", () => "f32"],
    ["bf16", () => "bf16"],
    ["f16", () => "f16"],
    ["mixed", mixed],
  ] as readonly [string, (index: number) => DType][])(
    "a %s checkpoint keeps what weightBytes says, and tells how far it is",
    (_, dtypeOf) => {
      for (const config of [CONFIG, { ...CONFIG, tiedEmbeddings: true, attentionBias: "none" } as const]) {
        write(config, dtypeOf);
        using checkpoint = Checkpoint.open(modelFolder("test", folder), config);
        for (const [world, rank] of [
          [1, 0],
          [3, 2],
          [8, 1],
        ] as const) {
          const share = rankShare(sizesOf(world), rank, config);
          const heap = SharedHeap.create(8 << 20);
          const told: number[] = [];
          loadWeights(checkpoint, config, share, Layers.open(heap), heap, { weights, onBytes: (n) => told.push(n) });
          const kept = weightBytes(checkpoint.storedDTypes, config, share, weights);
          const scaled = weights === "i8" ? 7 * config.layers + 2 : 0;
          expect(heap.usedBytes).toBeGreaterThanOrEqual(kept);
          expect(heap.usedBytes).toBeLessThan(kept + 128 * (TENSORS + scaled));
          expect(told.at(-1)).toBe(kept);
          expect(told).toEqual([...told].sort((a, b) => a - b));
        }
      }
    },
  );

  test("a heap of 1.2 times what is kept is enough", () => {
    const config = { ...CONFIG, layers: 1, windows: [null], hiddenSize: 512, intermediateSize: 4096 };
    write({ ...config, vocabularySize: 1001 }, () => "bf16");
    const whole = { ...config, vocabularySize: 1001 };
    using checkpoint = Checkpoint.open(modelFolder("test", folder), whole);
    const share = rankShare(sizesOf(1), 0, whole);
    const kept = weightBytes(checkpoint.storedDTypes, whole, share, weights);
    expect(loadingScratchBytes(checkpoint.storedDTypes, whole, share, weights)).toBeLessThanOrEqual(1 << 20);
    const heap = SharedHeap.create(Math.floor(1.2 * kept));
    loadWeights(checkpoint, whole, share, Layers.open(heap), heap, { weights });
    expect(heap.usedBytes).toBeLessThan(kept + 128 * 40);
  });

  test("a file that ends before any of its tensors leaves nothing in the heap", () => {
    write(CONFIG, mixed);
    const bytes = readFileSync(path);
    const header = 8 + Number(bytes.readBigUInt64LE(0));
    const entries = JSON.parse(bytes.subarray(8, header).toString()) as Record<string, { data_offsets: number[] }>;
    const heap = SharedHeap.create(8 << 20);
    const layers = Layers.open(heap);
    const share = rankShare(sizesOf(1), 0, CONFIG);
    for (const name of NAMES) {
      write(CONFIG, mixed);
      using checkpoint = Checkpoint.open(modelFolder("test", folder), CONFIG);
      truncateSync(path, header + (entries[name]?.data_offsets[1] ?? 0) - 1);
      const before = heap.usedBytes;
      expect(() => loadWeights(checkpoint, CONFIG, share, layers, heap, { weights })).toThrow(SafetensorsError);
      expect(heap.usedBytes).toBe(before);
    }
  });

  test("a heap that is too small, by much or little, is left as it was", () => {
    write(CONFIG, () => "bf16");
    using checkpoint = Checkpoint.open(modelFolder("test", folder), CONFIG);
    const share = rankShare(sizesOf(1), 0, CONFIG);
    const kept = weightBytes(checkpoint.storedDTypes, CONFIG, share, weights);
    for (let step = 0; step < 20; step++) {
      const heap = SharedHeap.create(Math.max(1, Math.floor((kept * step) / 20 / 65536) * 65536));
      const load = () => loadWeights(checkpoint, CONFIG, share, Layers.open(heap), heap, { weights });
      expect(load).toThrow(HeapExhausted);
      expect(heap.usedBytes).toBe(0);
    }
  });

  test("what onBytes throws is thrown, and nothing stays", () => {
    write(CONFIG, () => "bf16");
    using checkpoint = Checkpoint.open(modelFolder("test", folder), CONFIG);
    const heap = SharedHeap.create(8 << 20);
    let left = 9;
    const onBytes = (): void => {
      if (left-- === 0) throw new RangeError("enough");
    };
    const share = rankShare(sizesOf(2), 1, CONFIG);
    const load = () => loadWeights(checkpoint, CONFIG, share, Layers.open(heap), heap, { weights, onBytes });
    expect(load).toThrow(RangeError);
    expect(heap.usedBytes).toBe(0);
  });
});

test.each([Number.NaN, Number.POSITIVE_INFINITY])(
  "%d in a matrix is refused in int8, by the tensor's name",
  (value) => {
    const matrices = [...expectedShapes(architecture, CONFIG)].filter(([, shape]) => shape.length === 2);
    expect(matrices.length).toBe(7 * CONFIG.layers + 2);
    for (const [index, [name]] of matrices.entries()) {
      write(CONFIG, () => MIXED[index % 3] ?? "bf16", { name, value });
      using checkpoint = Checkpoint.open(modelFolder("test", folder), CONFIG);
      const heap = SharedHeap.create(8 << 20);
      const share = rankShare(sizesOf(2), 1, CONFIG);
      const load = () => loadWeights(checkpoint, CONFIG, share, Layers.open(heap), heap, { weights: "i8" });
      // The last element belongs to the last rank, or to both.
      expect(load).toThrow(ModelError);
      expect(load).toThrow(`expected finite numbers in ${name}, to keep it in int8, but found NaN or infinity in row`);
      expect(heap.usedBytes).toBe(0);
      expect(loadAlone(CONFIG, 2, 1, { weights: "stored" }).layers.length).toBe(CONFIG.layers);
    }
  },
);

test("an f16 matrix is known to be finite, unless it is not", () => {
  write(CONFIG, () => "f16", { name: architecture.layer(1).gate, value: Number.NEGATIVE_INFINITY });
  const { layers, embedding } = loadAlone(CONFIG, 2, 1, { weights: "stored" });
  const gates = layers.map(({ gate, up }) => [gate.isFinite, up.isFinite]);
  expect([embedding.isFinite, gates]).toEqual([
    true,
    [
      [true, true],
      [false, true],
    ],
  ]);
  // The other rank's rows are whole.
  expect(loadAlone(CONFIG, 2, 0, { weights: "stored" }).layers[1]?.gate.isFinite).toBe(true);
});

/** Values and scales of a matrix put together from those of ranks, by rows or by columns, as numbers. */
function together(parts: readonly Weight[], by: "rows" | "columns"): number[] {
  const whole = (tensors: readonly (Tensor | undefined)[]): number[] => {
    const numbers = tensors.map((tensor) => [...(tensor?.toNumbers() ?? [])]);
    if (by === "rows") return numbers.flat();
    const rows = tensors[0]?.dim(0) ?? 0;
    const row = (index: number): number[] =>
      numbers.flatMap((all) => all.slice((index * all.length) / rows, ((index + 1) * all.length) / rows));
    return Array.from({ length: rows }, (_, index) => row(index)).flat();
  };
  return [...whole(parts.map(({ values }) => values)), ...whole(parts.map(({ scales }) => scales))];
}

test.each([2, 3, 4])("%d ranks have the int8 weights of one", (world) => {
  write(CONFIG, () => "bf16");
  const alone = loadAlone(CONFIG, 1, 0, { weights: "i8" });
  const ranks = Array.from({ length: world }, (_, rank) => loadAlone(CONFIG, world, rank, { weights: "i8" }));
  for (const [index, layer] of alone.layers.entries()) {
    const own = ranks.map((rank) => rank.layers[index] ?? expect.unreachable());
    for (const field of ["query", "gate", "up"] as const) {
      const parts = own.map((part) => part[field]);
      expect(together(parts, "rows")).toEqual(together([layer[field]], "rows"));
    }
    for (const field of ["attentionOutput", "down"] as const) {
      const parts = own.map((part) => part[field]);
      expect(together(parts, "columns")).toEqual(together([layer[field]], "columns"));
    }
  }
  expect(
    together(
      ranks.map((rank) => rank.embedding),
      "rows",
    ),
  ).toEqual(together([alone.embedding], "rows"));
});
