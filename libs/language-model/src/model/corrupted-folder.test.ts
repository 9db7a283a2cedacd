// A damaged model folder ends in a model or in one typed error, never in another error and never in a hang.
import { afterAll, expect, test } from "bun:test";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LockstepError } from "@lockstep/tensor";
import fc from "fast-check";
import { DamagedFolders } from "../../test/damaged-folders.ts";
import { writeRandomCheckpoint } from "../../test/random-checkpoint.ts";
import { openModel } from "./model.ts";

const folder = mkdtempSync(join(tmpdir(), "lockstep-corrupted-"));
afterAll(() => rmSync(folder, { recursive: true }));
writeRandomCheckpoint(folder, "Qwen2ForCausalLM", { rope_parameters: { rope_type: "yarn", factor: 4 } });
cpSync(join(folder, "config.json"), join(folder, "whole.json"));
const config: Record<string, unknown> = JSON.parse(readFileSync(join(folder, "whole.json"), "utf8"));
const KEYS = [
  ...Object.keys(config),
  "rope_scaling",
  "rope_theta",
  "head_dim",
  "layer_types",
  "sliding_window",
  "eos_token_id",
];

const wild = fc.oneof(
  fc.constantFrom(null, 0, -1, 0.5, 1e15, 1e308, 2 ** 32, 2_000_000, "", "yarn", true, [], {}, { toString: 1 }),
  fc.jsonValue(),
  fc.record({ rope_type: fc.constantFrom("yarn", "llama3", "linear"), factor: fc.double(), beta_fast: fc.double() }),
);

test("values of config.json replaced or removed", () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.constantFrom(...KEYS), fc.option(wild, { nil: undefined }), { maxKeys: 3 }),
      (changes) => {
        writeFileSync(join(folder, "config.json"), JSON.stringify({ ...config, ...changes }));
        try {
          expect(openModel(folder).config.layers).toBe(3);
        } catch (error) {
          expect(error).toBeInstanceOf(LockstepError);
        }
      },
    ),
    { seed: 31, numRuns: 150 },
  );
}, 120_000);

test("any file of a folder cut, gone, a directory, with other bytes or other values", () => {
  const folders = new DamagedFolders();
  try {
    let loaded = 0;
    for (let seed = 0; seed < 1000; seed++) if (folders.load(seed)) loaded++;
    expect(loaded).toBeGreaterThan(200);
    expect(loaded).toBeLessThan(800);
  } finally {
    folders.close();
  }
}, 120_000);
