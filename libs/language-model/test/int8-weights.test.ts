// Weights in int8: the text of the shipped model, and logits against a float64 pass over the same rounded weights.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SafetensorsFile, SharedHeap, Tensor, writeSafetensors } from "@lockstep/tensor";
import { Generator } from "../src/generation/generator.ts";
import { openModel } from "../src/model/model.ts";
import { float64Logits } from "./float64-model.ts";
import { writeRandomCheckpoint } from "./random-checkpoint.ts";
import { continuation, differences, model as shipped, shortPrompts } from "./shipped-model.ts";

setDefaultTimeout(120_000);

describe("the shipped model tells its text in int8", () => {
  // The third prompt leaves it open what follows: a text that is made up, whatever the number of ranks.
  const open = shortPrompts[2]?.promptIds ?? expect.unreachable();
  const alone = (async () => {
    await using generator = await Generator.open(shipped, { world: 1, backend: "wasm", capacity: 64, weights: "i8" });
    return await continuation(generator, open, 40);
  })();

  test.each([1, 2, 3, 4])("%d ranks", async (world) => {
    const options = { world, backend: "wasm", weights: "i8" } as const;
    expect(await differences(options, shortPrompts.slice(0, 2), 40)).toEqual([]);
    await using generator = await Generator.open(shipped, { ...options, capacity: 64 });
    expect(await continuation(generator, open, 40)).toEqual(await alone);
  });
});

test("steps of several tokens give the bits of steps of one", async () => {
  const prompt = shortPrompts[0]?.promptIds ?? expect.unreachable();
  const logits: Float32Array[] = [];
  for (const maxStepTokens of [1, 2, 5, 64]) {
    const options = { world: 2, backend: "wasm", capacity: 32, weights: "i8", maxStepTokens } as const;
    await using generator = await Generator.open(shipped, options);
    await continuation(generator, prompt, 3);
    await generator.prefill(prompt);
    logits.push(await generator.logits());
  }
  for (const found of logits) expect(found).toEqual(logits[0] ?? expect.unreachable());
});

const root = mkdtempSync(join(tmpdir(), "lockstep-int8-"));
afterAll(() => rmSync(root, { recursive: true }));

const IDS = [5, 4098, 17, 17, 900, 2, 3001, 64, 12, 77, 4000, 1, 8];
/** Heads of 32, and columns of the MLP that end in a short group. */
const CONFIG = { hidden_size: 72, head_dim: 32, num_attention_heads: 8, intermediate_size: 140 };

function nearestEven(value: number): number {
  const low = Math.floor(value);
  return value - low === 0.5 && low % 2 === 0 ? low : Math.round(value);
}

/** A row whose groups of 32 are what int8 makes of them, in f32. */
function roundRow(row: Float64Array): void {
  for (let start = 0; start < row.length; start += 32) {
    const group = row.subarray(start, start + 32);
    const scale = Math.fround(Math.max(...group.map(Math.abs)) / 127);
    for (const [index, value] of group.entries()) group[index] = nearestEven(Math.fround(value / scale)) * scale;
  }
}

/** The same folder with all matrices rounded so. */
function writeRounded(from: string, to: string): void {
  cpSync(from, to, { recursive: true });
  using file = SafetensorsFile.open(join(from, "model.safetensors"));
  const heap = SharedHeap.create(32 << 20);
  const tensors = file.names.map((name) => {
    const { shape } = file.info(name);
    const numbers = file.readNumbers(name);
    const width = shape[1] ?? numbers.length;
    if (shape.length === 2) {
      for (let start = 0; start < numbers.length; start += width) roundRow(numbers.subarray(start, start + width));
    }
    return [name, Tensor.from(heap, "f32", shape, numbers)] as const;
  });
  writeSafetensors(join(to, "model.safetensors"), tensors);
}

describe.each(["f32", "bf16"] as const)("a random model stored in %s", (dtype) => {
  const [folder, rounded] = [join(root, dtype), join(root, `${dtype}-rounded`)];
  writeRandomCheckpoint(folder, "Qwen3ForCausalLM", CONFIG, { dtype });
  writeRounded(folder, rounded);
  const model = openModel(folder);
  const exact = float64Logits(rounded, IDS);
  const unrounded = float64Logits(folder, IDS);
  const spread = Math.max(...exact) - Math.min(...exact);
  const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
    let worst = 0;
    for (let id = 0; id < a.length; id++) worst = Math.max(worst, Math.abs((a[id] ?? 0) - (b[id] ?? Number.NaN)));
    return worst / spread;
  };

  test.each([1, 2, 3, 4])("%d ranks give the logits of float64 with the rounded weights", async (world) => {
    const options = { world, backend: "wasm", capacity: 32, weights: "i8" } as const;
    await using generator = await Generator.open(model, options);
    await generator.prefill(IDS.slice(0, -2));
    for (const id of IDS.slice(-2)) await generator.step([id]);
    const logits = await generator.logits();
    expect(logits.length).toBe(exact.length);
    expect(distance(logits, exact)).toBeLessThan(2e-4);
    // Which rounding moves by more than that.
    expect(distance(unrounded, exact)).toBeGreaterThan(1e-3);
  });
});
