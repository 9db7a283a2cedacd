// A token's logits have the same bits whatever else is in its step, however its text was cut into steps, decoded or
// prefilled, forked, or followed by drafted tokens that are forgotten.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openWorld, parallelGroups } from "@lockstep/dist-groups";
import fc from "fast-check";
import { RandomStream } from "../../../tests/random.ts";
import type { GeneratorOptions } from "../src/generation/generator-options.ts";
import { gpuGroups } from "../src/generation/rank-backend.ts";
import { resolveOptions } from "../src/generation/resolve-options.ts";
import { openModel } from "../src/model/model.ts";
import { writeRandomCheckpoint } from "./random-checkpoint.ts";
import type * as program from "./row-bits-program.ts";
import type { ModelItem, ModelStep } from "./row-bits-program.ts";

setDefaultTimeout(120_000);

const root = mkdtempSync(join(tmpdir(), "lockstep-row-bits-"));
afterAll(() => rmSync(root, { recursive: true }));

const LENGTH = 90;
/** Tiles of 32 keys; columns that are no multiple of a vector. */
const CONFIG = { num_attention_heads: 8, head_dim: 128, num_hidden_layers: 2, max_position_embeddings: 256 };
/** Little for a GPU that is software to do. */
const SMALL = { ...CONFIG, num_attention_heads: 4, head_dim: 16 };
const SMALL_LENGTH = 22;

const MODELS = Object.fromEntries(
  (["f32", "bf16", "f16"] as const).map((dtype) => {
    const folder = join(root, dtype);
    writeRandomCheckpoint(folder, "Qwen3ForCausalLM", CONFIG, { dtype });
    return [dtype, openModel(folder)];
  }),
);
writeRandomCheckpoint(join(root, "small"), "Qwen3ForCausalLM", SMALL, { dtype: "f32" });
MODELS.small = openModel(join(root, "small"));

/** Three texts of `length` tokens, and the steps that take them: decodes and prefills of several texts, forks, drafts. */
function schedule(seed: number, length: number, maxStepTokens: number, canPrefill: boolean) {
  const random = new RandomStream(seed);
  const texts = Array.from({ length: 3 }, () => Array.from({ length }, () => random.below(4099)));
  const stored = [0, 0, 0];
  const steps: ModelStep[] = [];
  while (stored.some((count) => count < length)) {
    const to = stored.indexOf(0);
    const from = random.below(3);
    const forked = stored[from] ?? 0;
    const fork = to >= 0 && forked > 0 && random.below(2) === 0 ? { from, to } : undefined;
    if (fork !== undefined) {
      texts[to]?.splice(0, forked, ...(texts[from]?.slice(0, forked) ?? []));
      stored[to] = forked;
    }
    let room = maxStepTokens;
    const items: ModelItem[] = [];
    for (const [text, count] of stored.entries()) {
      const left = Math.min(room, length - count);
      if (left === 0 || random.below(3) === 0) continue;
      const taken = Math.min(left, 1 + random.below(random.below(2) === 0 ? 3 : maxStepTokens));
      const drafts = Math.min(room - taken, random.below(3) === 0 ? 1 + random.below(4) : 0);
      const ids = texts[text]?.slice(count, count + taken) ?? [];
      items.push({ text, ids, drafted: Array.from({ length: drafts }, () => random.below(4099)) });
      room -= taken + drafts;
      stored[text] = count + taken;
    }
    if (items.length === 0 && fork === undefined) continue;
    steps.push({ ...(fork && { fork }), isPrefill: canPrefill && random.below(2) === 0, items });
  }
  return { texts, steps };
}

type Settings = Pick<
  GeneratorOptions,
  "weights" | "kvDtype" | "prefillChunk" | "dcp" | "interleave" | "backend" | "softwareVulkan" | "sharedGpu"
>;

async function checkLogits(
  world: number,
  stored: string,
  settings: Settings,
  numRuns: number,
  length = LENGTH,
): Promise<void> {
  const model = MODELS[stored] ?? expect.unreachable();
  const maxStepTokens = 40;
  const options = { world, backend: "wasm", capacity: length + 8, texts: 3, blockSize: 8, maxStepTokens } as const;
  const { rank } = resolveOptions(model, { ...options, ...settings });
  await using ranks = await openWorld<typeof program>({
    size: world,
    program: new URL("./row-bits-program.ts", import.meta.url),
    options: rank,
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
      const { texts, steps } = schedule(seed, length, maxStepTokens, settings.prefillChunk !== undefined);
      const mixed = await ranks.call("run", [3, steps]);
      const text = seed % 3;
      const plain = (texts[text] ?? []).map((id): ModelStep => {
        return { isPrefill: false, items: [{ text, ids: [id], drafted: [] }] };
      });
      const alone = await ranks.call("run", [3, plain]);
      for (const [at, found] of mixed.entries()) {
        const own = found.filter(([of]) => of === text).sort(([, a], [, b]) => a - b);
        // A fork has the tokens before it of the other text.
        const first = own[0]?.[1] ?? 0;
        expect(own).toEqual(alone[at]?.slice(first) ?? []);
      }
    }),
    { numRuns },
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
    [1, { ...gpu, kvDtype: "f16" }],
    [2, { ...gpu, dcp: 2, sharedGpu: true, prefillChunk: 9, kvDtype: "i8" }],
  ] as const)("on a GPU, %d ranks, %o", (world, settings) => checkLogits(world, "small", settings, 1, SMALL_LENGTH));
});
