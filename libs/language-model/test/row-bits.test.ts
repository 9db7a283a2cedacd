// A token's logits have the same bits whatever else is in its step, however its text was cut into steps, decoded or
// prefilled, forked, or followed by drafted tokens that are forgotten.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openWorld, parallelGroups } from "@lockstep/dist-groups";
import fc from "fast-check";
import type { GeneratorOptions } from "../src/generation/generator-options.ts";
import { gpuGroups } from "../src/generation/rank-backend.ts";
import { resolveOptions } from "../src/generation/resolve-options.ts";
import { openModel } from "../src/model/model.ts";
import { writeRandomCheckpoint } from "./random-checkpoint.ts";
import type * as program from "./row-bits-program.ts";
import { inSteps, type Lengths, MAX_STEP_TOKENS, schedule } from "./text-schedule.ts";

setDefaultTimeout(120_000);

const root = mkdtempSync(join(tmpdir(), "lockstep-row-bits-"));
afterAll(() => rmSync(root, { recursive: true }));

/** Tiles of 32 keys; columns that are no multiple of a vector. */
const CONFIG = { num_attention_heads: 8, head_dim: 128, num_hidden_layers: 2, max_position_embeddings: 256 };
/** Little for a GPU that is software to do. A head of its own keys, so that rows of a workgroup are tokens. */
const SMALL = { ...CONFIG, num_attention_heads: 4, num_key_value_heads: 4, head_dim: 16, max_position_embeddings: 600 };

const MODELS = Object.fromEntries(
  (["f32", "bf16", "f16"] as const).map((dtype) => {
    const folder = join(root, dtype);
    writeRandomCheckpoint(folder, "Qwen3ForCausalLM", CONFIG, { dtype });
    return [dtype, openModel(folder)];
  }),
);
writeRandomCheckpoint(join(root, "small"), "Qwen3ForCausalLM", SMALL, { dtype: "f32" });
MODELS.small = openModel(join(root, "small"));

const ON_CPU: Lengths = { length: 90, prefix: 0 };
/** From one split of a rank's keys into the next; and, for two ranks, keys enough for sums to have an order. */
const ACROSS_SPLITS: Lengths = { length: 264, prefix: 252 };
const IN_A_SPLIT: Lengths = { length: 132, prefix: 120 };

type Settings = Pick<
  GeneratorOptions,
  "weights" | "kvDtype" | "prefillChunk" | "dcp" | "interleave" | "backend" | "softwareVulkan" | "sharedGpu"
>;

async function checkLogits(
  world: number,
  stored: string,
  settings: Settings,
  numRuns: number,
  lengths = ON_CPU,
): Promise<void> {
  const model = MODELS[stored] ?? expect.unreachable();
  const sizes = { capacity: lengths.length + 8, texts: 3, blockSize: 8, maxStepTokens: MAX_STEP_TOKENS };
  const { rank } = resolveOptions(model, { world, backend: "wasm", ...sizes, ...settings });
  await using ranks = await openWorld<typeof program>({
    size: world,
    program: new URL("./row-bits-program.ts", import.meta.url),
    options: { ...rank, isPlain: false, hasOwnMemory: false },
    heapBytesPerRank: 96 << 20,
    // Sums of short steps go through staging memory, those of long ones do not.
    stagingBytes: 2048,
    deadlineMs: 100_000,
    groups: {
      dcp: parallelGroups({ layout: "classic", tp: world, dcp: rank.sizes.dcp }).dcp,
      gpu: gpuGroups(world, 1),
    },
  });
  await fc.assert(
    fc.asyncProperty(fc.nat(), async (seed) => {
      const { texts, steps } = schedule(seed, lengths, settings.prefillChunk !== undefined);
      const mixed = await ranks.call("run", [3, steps]);
      // Not one that was forked from a whole text, and so has no tokens of its own.
      const taking = [0, 1, 2].filter((text) => steps.some(({ items }) => items.some((item) => item.text === text)));
      const text = taking[seed % taking.length] ?? expect.unreachable();
      const { prefix } = lengths;
      const ids = texts[text] ?? [];
      const plain = [...inSteps(text, ids.slice(0, prefix), 33, false), ...inSteps(text, ids.slice(prefix), 1, false)];
      const alone = await ranks.call("run", [3, plain]);
      for (const [at, found] of mixed.entries()) {
        const own = found.filter(([of]) => of === text).sort(([, a], [, b]) => a - b);
        // A fork has the tokens before it of the other text.
        const first = own[0]?.[1] ?? 0;
        expect(own).toEqual(alone[at]?.slice(first) ?? []);
      }
    }),
    { numRuns, endOnFailure: true },
  );
}

describe("logits keep their bits", () => {
  test.each([
    [1, "f32", {}],
    [1, "f16", { weights: "i8", prefillChunk: 7 }],
    [2, "bf16", { dcp: 2, prefillChunk: 24, interleave: 4 }],
    [2, "f16", { prefillChunk: 500, kvDtype: "f8e4m3" }],
    [3, "f32", { dcp: 3, weights: "i8", prefillChunk: 64, kvDtype: "i8" }],
    [4, "bf16", { dcp: 4, prefillChunk: 1 }],
    [4, "f32", { kvDtype: "f16", prefillChunk: 200 }],
  ] as const)("%d ranks, weights in %s, %o", (world, stored, settings) => checkLogits(world, stored, settings, 2));
  // What a generator takes on a GPU unless it is told otherwise.
  const gpu = { backend: "webgpu", softwareVulkan: true } as const;
  test.each([
    [1, { ...gpu, kvDtype: "f16" }, ACROSS_SPLITS],
    [2, { ...gpu, dcp: 2, sharedGpu: true, prefillChunk: 9, kvDtype: "i8" }, IN_A_SPLIT],
  ] as const)("on a GPU, %d ranks, %o", (world, settings, lengths) =>
    checkLogits(world, "small", settings, 1, lengths),
  );
});
