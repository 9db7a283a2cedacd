import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DType, SharedHeap, Tensor, writeSafetensors } from "@lockstep/tensor";
import { Layers } from "../layers/layers.ts";
import { modelFolder } from "./model-files.ts";
import { findArchitecture } from "./architectures.ts";
import { Checkpoint, expectedShapes } from "./checkpoint.ts";
import type { ModelConfig } from "./config.ts";
import { rankShare } from "./tensor-parallel.ts";
import { weightBytes } from "./weight-bytes.ts";
import { loadWeights } from "./weights.ts";

const CONFIG: ModelConfig = {
  architecture: "LlamaForCausalLM",
  layers: 2,
  hiddenSize: 12,
  intermediateSize: 11,
  queryHeads: 4,
  kvHeads: 2,
  headDim: 6,
  vocabularySize: 17,
  normEpsilon: 1e-5,
  attentionBias: "none",
  queryKeyNorm: false,
  windows: [null, null],
  ropeTheta: 10000,
  maxPositions: 64,
  tiedEmbeddings: false,
  endTokens: [],
};
const STORED = { weights: "stored" } as const;
const folder = mkdtempSync(join(tmpdir(), "lockstep-weights-"));
afterAll(() => rmSync(folder, { recursive: true }));
const heap = SharedHeap.create(4 << 20);
const layers = Layers.open(heap);
const architecture = findArchitecture(CONFIG.architecture) ?? expect.unreachable();

/** Tensors of a model, each element different, exact in every dtype used. */
function tensors(config: ModelConfig, dtype: DType): Map<string, Tensor> {
  let next = 0;
  const numbers = (shape: readonly number[]) =>
    Float64Array.from({ length: shape.reduce((product, size) => product * size, 1) }, () => (next++ % 251) - 125);
  return new Map(
    [...expectedShapes(architecture, config)].map(([name, shape]) => [
      name,
      Tensor.from(heap, dtype, shape, numbers(shape)),
    ]),
  );
}

function write(all: Map<string, Tensor>, file = "model.safetensors"): string {
  const path = join(folder, file);
  writeSafetensors(path, all);
  return path;
}

/** Row-major numbers of tensors put together along dimension `dim`. */
function joined(parts: readonly Tensor[], dim: 0 | 1): number[] {
  if (dim === 0) return parts.flatMap((part) => [...part.toNumbers()]);
  const rows = parts[0]?.shape[0] ?? 0;
  return Array.from({ length: rows }, (_, row) =>
    parts.flatMap((part) => [...part.slice(0, row, row + 1).toNumbers()]),
  ).flat();
}

describe.each(["bf16", "f16", "f32"] as const)("a %s checkpoint", (dtype) => {
  test.each([
    [1, 1, "replicated", 2],
    [3, 3, "replicated", 2],
    [4, 2, "sharded", 2],
    [2, 1, "sharded", 2],
    [4, 2, "sharded", 4],
    [2, 1, "sharded", 4],
  ] as const)("split over %d ranks (DCP %d, %s, %d KV heads) is whole when joined", (world, dcp, kvLayout, kvHeads) => {
    const config = { ...CONFIG, kvHeads };
    const all = tensors(config, dtype);
    write(all);
    using checkpoint = Checkpoint.open(modelFolder("test", folder), config);
    const shares = Array.from({ length: world }, (_, rank) => rankShare({ world, dcp, kvLayout }, rank, config));
    const before = heap.usedBytes;
    const ranks = shares.map((share) => loadWeights(checkpoint, config, share, layers, heap, STORED));
    const numbers = (name: string): number[] => [...(all.get(name)?.toNumbers() ?? [])];
    for (let index = 0; index < config.layers; index++) {
      const names = architecture.layer(index);
      const parts = ranks.map((rank) => rank.layers[index] ?? expect.unreachable());
      expect(
        joined(
          parts.map((part) => part.query.values),
          0,
        ),
      ).toEqual(numbers(names.query));
      expect(
        joined(
          parts.map((part) => part.attentionOutput.values),
          1,
        ),
      ).toEqual(numbers(names.attentionOutput));
      expect(
        joined(
          parts.map((part) => part.gate.values),
          0,
        ),
      ).toEqual(numbers(names.gate));
      expect(
        joined(
          parts.map((part) => part.up.values),
          0,
        ),
      ).toEqual(numbers(names.up));
      expect(
        joined(
          parts.map((part) => part.down.values),
          1,
        ),
      ).toEqual(numbers(names.down));
      for (const [rank, part] of parts.entries()) {
        const { start, end } = shares[rank]?.kvHeads ?? expect.unreachable();
        const [from, to] = [start * config.headDim * config.hiddenSize, end * config.headDim * config.hiddenSize];
        expect([...part.key.values.toNumbers()]).toEqual(numbers(names.key).slice(from, to));
        expect([...part.value.values.toNumbers()]).toEqual(numbers(names.value).slice(from, to));
        expect([...part.attentionNorm.toNumbers()]).toEqual(numbers(names.attentionNorm));
        expect([...part.mlpNorm.toNumbers()]).toEqual(numbers(names.mlpNorm));
      }
    }
    expect(
      joined(
        ranks.map((rank) => rank.embedding.values),
        0,
      ),
    ).toEqual(numbers(architecture.embedding));
    expect(
      joined(
        ranks.map((rank) => rank.output.values),
        0,
      ),
    ).toEqual(numbers(architecture.output));
    for (const rank of ranks) expect([rank.embedding.values.dtype, rank.finalNorm.dtype]).toEqual([dtype, "f32"]);
    // What stays in the heap is the shares alone, each tensor rounded up to a cache line.
    const kept = shares.reduce((sum, share) => sum + weightBytes(checkpoint.storedDTypes, config, share, "stored"), 0);
    const allocations = world * (9 * config.layers + 3);
    expect(heap.usedBytes - before).toBeGreaterThanOrEqual(kept);
    expect(heap.usedBytes - before).toBeLessThan(kept + allocations * 128);
  });
});

test("biases are split as the rows of their weights are; what normalises heads is whole on every rank", () => {
  const config: ModelConfig = { ...CONFIG, attentionBias: "qkvo", queryKeyNorm: true };
  const all = tensors(config, "bf16");
  write(all);
  using checkpoint = Checkpoint.open(modelFolder("test", folder), config);
  const sizes = { world: 3, dcp: 3, kvLayout: "replicated" } as const;
  const shares = [0, 1, 2].map((rank) => rankShare(sizes, rank, config));
  const before = heap.usedBytes;
  const ranks = shares.map((share) => loadWeights(checkpoint, config, share, layers, heap, STORED));
  const names = architecture.layer(1);
  const numbers = (name: string): number[] => [...(all.get(name)?.toNumbers() ?? [])];
  type Vector = "keyBias" | "valueBias" | "queryBias" | "attentionOutputBias" | "queryNorm" | "keyNorm";
  const found = (rank: number, field: Vector): number[] => [...(ranks[rank]?.layers[1]?.[field]?.toNumbers() ?? [])];
  expect([0, 1, 2].flatMap((rank) => found(rank, "queryBias"))).toEqual(numbers(names.queryBias));
  for (const rank of [0, 1, 2]) {
    for (const field of ["keyBias", "valueBias", "attentionOutputBias", "queryNorm", "keyNorm"] as const) {
      expect(found(rank, field)).toEqual(numbers(names[field]));
    }
  }
  const kept = shares.reduce((sum, share) => sum + weightBytes(checkpoint.storedDTypes, config, share, "stored"), 0);
  expect(heap.usedBytes - before).toBeGreaterThanOrEqual(kept);
  expect(heap.usedBytes - before).toBeLessThan(kept + 3 * (15 * config.layers + 3) * 128);
});

test("tied embeddings are one tensor", () => {
  const config = { ...CONFIG, tiedEmbeddings: true };
  write(tensors(config, "bf16"));
  using checkpoint = Checkpoint.open(modelFolder("test", folder), config);
  const share = rankShare({ world: 2, dcp: 2, kvLayout: "replicated" }, 1, config);
  const weights = loadWeights(checkpoint, config, share, layers, heap, STORED);
  expect(weights.output).toBe(weights.embedding);
});

test("a checkpoint of several files, by its index", () => {
  const indexed = mkdtempSync(join(tmpdir(), "lockstep-index-"));
  const all = [...tensors(CONFIG, "bf16")];
  const files = { "a.safetensors": all.slice(0, 9), "b.safetensors": all.slice(9) };
  const weight_map: Record<string, string> = {};
  for (const [file, part] of Object.entries(files)) {
    writeSafetensors(join(indexed, file), part);
    for (const [name] of part) weight_map[name] = file;
  }
  writeFileSync(join(indexed, "model.safetensors.index.json"), JSON.stringify({ weight_map }));
  try {
    using checkpoint = Checkpoint.open(modelFolder("test", indexed), CONFIG);
    expect(checkpoint.fileOf(architecture.layer(1).down).path).toEndWith("b.safetensors");
    expect(checkpoint.fileOf(architecture.embedding).path).toEndWith("a.safetensors");
  } finally {
    rmSync(indexed, { recursive: true });
  }
});

describe("refused when opened", () => {
  const open = () => Checkpoint.open(modelFolder("test", folder), CONFIG).close();

  test("a truncated file", () => {
    const path = write(tensors(CONFIG, "bf16"));
    const bytes = readFileSync(path);
    for (const length of [0, 4, 100, bytes.length - 1]) {
      writeFileSync(path, bytes.subarray(0, length));
      expect(open).toThrow("Is the file complete and a safetensors file?");
    }
  });

  test("a missing tensor", () => {
    const all = tensors(CONFIG, "bf16");
    all.delete(architecture.layer(1).up);
    write(all);
    expect(open).toThrow("expected a tensor model.layers.1.mlp.up_proj.weight, but found none");
  });

  test("a tensor of another shape or of integers", () => {
    const all = tensors(CONFIG, "bf16");
    write(new Map(all).set(architecture.finalNorm, Tensor.zeros(heap, "bf16", [13])));
    expect(open).toThrow("expected model.norm.weight of shape [12], but found [13]");
    write(new Map(all).set(architecture.finalNorm, Tensor.zeros(heap, "i32", [12])));
    expect(open).toThrow("expected model.norm.weight in f32, f16 or bf16, but found i32");
  });

  test("no weights at all", () => {
    rmSync(join(folder, "model.safetensors"));
    expect(open).toThrow("expected a readable file, but found none");
  });
});
