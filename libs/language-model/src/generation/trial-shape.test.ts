import { describe, expect, test } from "bun:test";
import { SharedHeap } from "@lockstep/tensor";
import { MODEL_FOLDER } from "../../test/shipped-folder.ts";
import { type Model, openModel } from "../model/model.ts";
import { lengthOf, rankShare } from "../model/tensor-parallel.ts";
import { weightBytes } from "../model/weight-bytes.ts";
import type { GeneratorOptions } from "./generator-options.ts";
import { MEMORY_BYTES } from "./memory-plan.ts";
import { planTrial, trialShape } from "./trial-shape.ts";
import { TrialWeights } from "./trial-weights.ts";
import { spreadOptions } from "./world-candidates.ts";

const shipped = openModel(MODEL_FOLDER);
const least: GeneratorOptions = { world: "auto", backend: "wasm" };
const ONE = { world: 1, dcp: 1, kvLayout: "replicated" } as const;
const FOUR = { world: 4, dcp: 2, kvLayout: "sharded" } as const;

/** The shipped model with other sizes. */
function resized(sizes: Partial<Model["config"]>): Model {
  const config = { ...shipped.config, ...sizes };
  return { ...shipped, config: { ...config, windows: new Array<null>(config.layers).fill(null) } };
}

describe("the part of a model that is timed", () => {
  test("two layers of a small model, all of its vocabulary, texts as long as they grow", () => {
    const { model, texts, lengths, promptTokens } = trialShape(shipped, least, 103);
    expect(model.config).toMatchObject({ layers: 2, windows: [null, null], vocabularySize: 4096 });
    expect([texts, lengths, promptTokens]).toEqual([1, [102], 0]);
  });

  test("layers of a large model that do not stay in a cache, and a part of a large vocabulary", () => {
    const large = resized({ layers: 22, hiddenSize: 2048, intermediateSize: 5632, vocabularySize: 128_256 });
    const { model } = trialShape(large, least, 103);
    const bytes = weightBytes(large.storedDTypes, model.config, rankShare(ONE, 0, model.config), "stored");
    expect(model.config.layers).toBeLessThan(22);
    expect(bytes).toBeGreaterThan(96 << 20);
    expect(model.config.vocabularySize * 2048 * 2).toBe(16 << 20);
  });

  test("a model of one layer, prompts of long texts, contexts beyond what is timed at two lengths", () => {
    expect(trialShape(resized({ layers: 1 }), least, 1)).toMatchObject({ lengths: [0], promptTokens: 0 });
    expect(trialShape(shipped, least, 512)).toMatchObject({ lengths: [511], promptTokens: 64, promptStart: 255 });
    expect(trialShape(shipped, { ...least, maxStepTokens: 5 }, 512).promptTokens).toBe(5);
    expect(trialShape(shipped, least, 16_384).lengths).toEqual([16_383]);
    // Two layers' keys and values of 16 texts in f32 take 32 MiB at 1024 tokens.
    expect(trialShape(shipped, { ...least, texts: 40 }, 16_384)).toMatchObject({ texts: 16, lengths: [256, 1024] });
    // Few tokens are timed of large caches: a prompt begins where it ends with them.
    const wide = trialShape(resized({ kvHeads: 8, headDim: 512 }), { ...least, texts: 12 }, 16_384);
    expect(Math.max(...wide.lengths)).toBeLessThan(64);
    expect(wide.promptStart).toBe(0);
  });
});

describe("the world of a trial", () => {
  const planned = (model: Model, context: number) => {
    const candidates = [ONE, FOUR].map((sizes) => spreadOptions({ ...least, capacity: context }, sizes));
    return planTrial(model, trialShape(model, least, context), candidates);
  };

  test("is as large as its largest candidate, which one memory holds", () => {
    const { size, options, heapBytesPerRank } = planned(shipped, 103);
    expect([size, options.ownBytes, options.combine]).toEqual([4, 0, "one-shot"]);
    expect(options.candidates.map(({ numBlocks }) => numBlocks)).toEqual([2 * 7, 2 * 4]);
    expect(heapBytesPerRank * size).toBeLessThan(2 ** 28);
  });

  test("has a memory of each rank's own where layers are huge", () => {
    const huge = resized({ layers: 2, hiddenSize: 8192, intermediateSize: 30_000 });
    const { size, options, heapBytesPerRank } = planned(huge, 103);
    expect(options.ownBytes).toBeGreaterThan(2 * 3 * 8192 * 30_000 * 2);
    expect(options.ownBytes).toBeLessThanOrEqual(MEMORY_BYTES);
    expect(heapBytesPerRank * size).toBeLessThan(2 ** 28);
  });
});

describe.each(["stored", "i8"] as const)("made-up weights, %s", (kind) => {
  test("have the shapes of a share and finite values, over the same memory for every share", () => {
    const heap = SharedHeap.create(2 ** 26);
    const { model } = trialShape(shipped, least, 103);
    const { config } = model;
    const shares = [rankShare(ONE, 0, config), rankShare(FOUR, 0, config)];
    const [whole, part] = shares;
    if (whole === undefined || part === undefined) expect.unreachable();
    const made = new TrialWeights(heap, config, shares, model.storedDTypes, kind);
    const used = heap.usedBytes;
    const bytes = weightBytes(model.storedDTypes, config, whole, kind);
    expect(used).toBeGreaterThan(0.95 * bytes);
    expect(used).toBeLessThan(1.05 * bytes);
    for (const share of shares) {
      const { embedding, output, layers } = made.of(config, share);
      expect(output).toBe(embedding);
      expect(embedding.values.shape).toEqual([lengthOf(share.vocabulary), 256]);
      expect(layers.length).toBe(2);
      for (const layer of layers) {
        expect(layer.query.values.shape).toEqual([lengthOf(share.queryHeads) * 64, 256]);
        expect(layer.key.values.shape).toEqual([lengthOf(share.kvHeads) * 64, 256]);
        expect(layer.down.values.shape).toEqual([256, lengthOf(share.intermediate)]);
        expect(layer.down.values.dtype).toBe(kind === "i8" ? "i8" : "bf16");
        expect(layer.down.scales?.shape).toEqual(
          kind === "i8" ? [256, Math.ceil(lengthOf(share.intermediate) / 32)] : undefined,
        );
        expect([...layer.query.values.toNumbers()].every((value) => value > 0 && value <= 1)).toBe(true);
        expect([...layer.attentionNorm.toNumbers()].every((value) => value > 0)).toBe(true);
      }
    }
  });
});
