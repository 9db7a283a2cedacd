// A generator that gets more ranks, and fewer, in the middle of texts: they go on, and nothing is computed again.
import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { ArgumentError, ResourceClosed } from "@lockstep/tensor";
import { MoveFailed, UnfitOptions } from "../src/errors.ts";
import { Generator } from "../src/generation/generator.ts";
import { GeneratorRanks } from "../src/generation/generator-ranks.ts";
import type { GeneratorOptions } from "../src/generation/generator-options.ts";
import type { ResizeChanges } from "../src/generation/resize-options.ts";
import { greedy, model } from "./shipped-model.ts";
import { outcomeOf } from "../../../tests/outcome-of.ts";

setDefaultTimeout(180_000);

const options = { world: 2, dcp: 2, backend: "wasm", capacity: 256, blockSize: 4, texts: 2 } as const;
const [first, second] = greedy;
if (first === undefined || second === undefined) throw new Error("two texts");
const PROMPTS = [first.promptIds, second.promptIds.slice(0, 37)];

/** Tokens of both texts; resizes when there are so many of the first. */
async function continued(
  more: Partial<GeneratorOptions>,
  steps: readonly (readonly [tokens: number, changes: ResizeChanges])[] = [],
) {
  await using generator = await Generator.open(model, { ...options, ...more });
  const texts: number[][] = [[], []];
  const worlds = [generator.sizes.world];
  const resized: Promise<unknown>[] = [];
  for await (const { text, token } of generator.generateAll(PROMPTS, { maxTokens: 90, explain: 3 })) {
    texts[text]?.push(token);
    const [at = Number.POSITIVE_INFINITY, changes = {}] = steps[resized.length] ?? [];
    if (text !== 0 || (texts[0]?.length ?? 0) < at || worlds.length <= resized.length) continue;
    resized.push(generator.resize(changes).then(() => worlds.push(generator.sizes.world)));
  }
  await Promise.all(resized);
  const explanation = await generator.explain();
  return { texts, worlds, step: explanation?.step };
}

test.each([
  ["", {}],
  [", with drafts", { maxDraft: 3 }],
  [", with prompts that are prefilled by chunks", { prefillChunk: 8, maxStepTokens: 16 }],
] as const)("texts go on with their tokens, in the middle of a batch%s", async (_name, more) => {
  const alone = await continued(more);
  const { texts, worlds, step } = await continued(more, [
    [3, { world: 4, dcp: 4, interleave: 2 }],
    [40, { world: 1, dcp: 1, interleave: 1, blockSize: 3 }],
  ]);
  expect(worlds).toEqual([2, 4, 1]);
  expect(texts).toEqual(alone.texts);
  expect(texts[0]?.slice(0, 30)).toEqual(first.greedyIds.slice(0, 30));
  // The step that was to be explained is told, whichever ranks made it.
  expect(step).toBe(3);
});

test("a text that is continued step by step: nothing is computed again, and its last logits stay", async () => {
  const invariant = { ...options, texts: 1, deterministic: "world-invariant" } as const;
  await using alone = await Generator.open(model, invariant);
  await using generator = await Generator.open(model, invariant);
  const next = await generator.prefill(first.promptIds);
  expect(await alone.prefill(first.promptIds)).toBe(next);
  await generator.resize({ world: 4, dcp: 4 });
  const [{ attention } = expect.unreachable(), ...others] = await generator.metrics();
  expect(attention.steps).toBe(0);
  const held = others.reduce((sum, rank) => sum + rank.attention.tokensHeld, attention.tokensHeld);
  expect(held).toBe(first.promptIds.length);
  expect(await generator.logits()).toEqual(await alone.logits());
  await generator.resize({ blockSize: 7 });
  expect(await generator.logits()).toEqual(await alone.logits());
  expect(await generator.step([next])).toBe(await alone.step([next]));
  expect(await generator.logits()).toEqual(await alone.logits());
  expect((await generator.metrics())[0]?.attention.steps).toBe(1);
});

test("what cannot be changes nothing, nor do ranks that die before they have all", async () => {
  await using generator = await Generator.open(model, { ...options, texts: 1 });
  const next = await generator.prefill(first.promptIds);
  const refused = async (changes: object, error: new (...args: never[]) => Error): Promise<void> => {
    expect(await outcomeOf(Reflect.apply(generator.resize, generator, [changes]))).toThrow(error);
  };
  await refused({ world: 3 }, UnfitOptions);
  await refused({ world: 0 }, ArgumentError);
  await refused({ kvTokens: 4 }, ArgumentError);
  const stopped = AbortSignal.abort(new Error("not wanted"));
  expect(await outcomeOf(generator.resize({ world: 4, dcp: 4 }, { signal: stopped }))).toThrow("not wanted");
  const { writeRows } = GeneratorRanks.prototype;
  using dying = spyOn(GeneratorRanks.prototype, "writeRows").mockImplementationOnce(async function (
    this: GeneratorRanks,
    ...args
  ) {
    await this.world.terminateRank(args[0]);
    return await writeRows.apply(this, args);
  });
  expect(await outcomeOf(generator.resize({ world: 4, dcp: 4 }))).toThrow(MoveFailed);
  expect(dying).toHaveBeenCalled();
  expect(generator.sizes).toMatchObject({ world: 2, dcp: 2 });
  expect(next).toBe(first.greedyIds[0] ?? -1);
  expect(await generator.step([next])).toBe(first.greedyIds[1] ?? -1);
  await generator.close();
  expect(await outcomeOf(generator.resize({ world: 1 }))).toThrow(ResourceClosed);
});
