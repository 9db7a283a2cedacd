// Small checkpoints of the architectures whose real shapes the files `*.large.ts` beside this one run.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openModel } from "@lockstep/language-model";
import { checkCheckpoint } from "./check-checkpoint.ts";
import { RandomBf16 } from "./random-bf16.ts";
import { SHAPES, tensorShapes } from "./shapes.ts";
import { writeCheckpoint } from "./write-checkpoint.ts";

setDefaultTimeout(120_000);

checkCheckpoint("llama-small", 1024, { shardBytes: 4e6 });
checkCheckpoint("qwen3-small", 1024, { shardBytes: 4e6 });

describe("random checkpoints", () => {
  test("real shapes have as many weights as the models they are named after", () => {
    const weights = (name: keyof typeof SHAPES): number =>
      [...tensorShapes(SHAPES[name])].reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b), 0);
    expect(weights("llama-3.2-1b")).toBe(1_235_814_400);
    expect(weights("qwen3-0.6b")).toBe(596_049_920);
  });

  test("come in several files, of the same bytes for the same seed and of others for another", () => {
    const root = mkdtempSync(join(tmpdir(), "lockstep-checkpoints-"));
    try {
      const written = (folder: string, seed: number): Map<string, Buffer> => {
        writeCheckpoint(join(root, folder), SHAPES["qwen3-small"], { seed, shardBytes: 2e6 });
        const names = readdirSync(join(root, folder)).sort();
        return new Map(names.map((name) => [name, readFileSync(join(root, folder, name))]));
      };
      const [first, again, other] = [written("first", 7), written("again", 7), written("other", 8)];
      expect([...first.keys()].filter((name) => name.endsWith(".safetensors")).length).toBeGreaterThan(2);
      expect(first).toEqual(again);
      const differing = [...first].filter(([name, bytes]) => other.get(name)?.equals(bytes) === false);
      expect(differing.map(([name]) => name)).toEqual(
        [...first.keys()].filter((name) => name.endsWith(".safetensors")),
      );
      const { config, tokenizer, warnings } = openModel(join(root, "first"));
      expect(warnings).toEqual([]);
      expect(config.endTokens).toEqual([SHAPES["qwen3-small"].eos_token_id]);
      expect(tokenizer.decode(tokenizer.encode("and the café"))).toBe("and the café");
    } finally {
      rmSync(root, { recursive: true });
    }
  });

  test("numbers have the mean and the deviation asked for", () => {
    const bits = new Uint16Array(1 << 18);
    new RandomBf16(3, 1, 0.1).fill(bits);
    const values = new Float32Array(Uint32Array.from(bits, (half) => half << 16).buffer);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
    // Of 2^18 numbers; a bf16 near 1 is right to 2^-8.
    expect(Math.abs(mean - 1)).toBeLessThan(2e-3);
    expect(Math.abs(deviation - 0.1)).toBeLessThan(5e-3);
    // The second number of a pair says nothing of the first.
    let product = 0;
    for (let pair = 0; pair < values.length; pair += 2) {
      product += ((values[pair] ?? 0) - mean) * ((values[pair + 1] ?? 0) - mean);
    }
    expect(Math.abs(product / (values.length / 2) / deviation ** 2)).toBeLessThan(0.02);
  });
});
