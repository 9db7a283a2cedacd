// A token's logits have the same bits on any number of ranks, however they share heads and tokens, and whatever else is
// in a step.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DType } from "@lockstep/tensor";
import { openModel } from "../src/model/model.ts";
import { writeRandomCheckpoint } from "./random-checkpoint.ts";
import { checkWorlds } from "./random-worlds.ts";
import { schedule } from "./text-schedule.ts";
import { type Layout, logitsOf, type Settings } from "./world-invariant-logits.ts";

setDefaultTimeout(120_000);

const root = mkdtempSync(join(tmpdir(), "lockstep-world-invariant-"));
afterAll(() => rmSync(root, { recursive: true }));

/** Heads, hidden size, columns and vocabulary that few numbers of ranks divide. */
const CONFIG = { num_attention_heads: 8, head_dim: 16, num_hidden_layers: 2, max_position_embeddings: 128 };

/** Texts are short: attention is in plain loops. */
const LENGTHS = { length: 24, prefix: 0 };

describe("layers alone: logits have the bits of one rank", () => {
  // Six ranks in pairs have heads that are no chunks of all heads.
  test.each<readonly [DType, Omit<Settings, "isPlain">, readonly Layout[]]>([
    [
      "f32",
      {},
      [
        { world: 6, dcp: 2 },
        { world: 8, dcp: 4, kvHeads: "replicated" },
      ],
    ],
    [
      "bf16",
      {},
      [
        { world: 2, dcp: 1 },
        { world: 5, dcp: 1, hasOwnMemory: true },
      ],
    ],
    [
      "f16",
      {},
      [
        { world: 4, dcp: 2 },
        { world: 7, dcp: 7 },
      ],
    ],
    [
      "bf16",
      { weights: "i8" },
      [
        { world: 3, dcp: 3 },
        { world: 6, dcp: 2, hasOwnMemory: true },
      ],
    ],
  ])("weights in %s, %o, %o", async (dtype, settings, layouts) => {
    const folder = join(root, `${dtype}-${Object.values(settings).join()}`);
    writeRandomCheckpoint(folder, "Qwen3ForCausalLM", CONFIG, { dtype });
    const model = openModel(folder);
    const { steps } = schedule(3, LENGTHS, false);
    const options = { ...settings, isPlain: true };
    const alone = await logitsOf(model, { world: 1, dcp: 1 }, options, steps);
    expect(alone.length).toBeGreaterThan(LENGTHS.length);
    for (const layout of layouts) expect(await logitsOf(model, layout, options, steps)).toEqual(alone);
  });
});

describe("on random worlds, mixed with others, logits have the bits of their text alone on one rank", () => {
  test.each<readonly [object, Omit<Settings, "isPlain">]>([
    [{}, {}],
    [{ sliding_window: 9, use_sliding_window: true, max_window_layers: 1 }, { kvDtype: "f16" }],
    [{}, { kvDtype: "i8", weights: "i8" }],
  ])("%o, %o", async (config, settings) => {
    const folder = join(root, `mixed-${Object.values({ ...config, ...settings }).join()}`);
    writeRandomCheckpoint(folder, "Qwen3ForCausalLM", { ...CONFIG, ...config }, { dtype: "bf16" });
    await checkWorlds(openModel(folder), settings, { runs: 1, worlds: 2 });
  });
});

test("on a GPU, too, two ranks have the bits of one", async () => {
  const folder = join(root, "gpu");
  writeRandomCheckpoint(folder, "Qwen3ForCausalLM", CONFIG, { dtype: "bf16" });
  const model = openModel(folder);
  const { steps } = schedule(5, { length: 10, prefix: 0 }, false);
  const settings = { backend: "webgpu", softwareVulkan: true, isPlain: false } as const;
  const alone = await logitsOf(model, { world: 1, dcp: 1 }, settings, steps);
  const spread = await logitsOf(model, { world: 2, dcp: 2, interleave: 4 }, { ...settings, sharedGpu: true }, steps);
  expect(spread).toEqual(alone);
});
