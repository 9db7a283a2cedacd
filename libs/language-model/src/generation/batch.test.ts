import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Batch, type BatchOptions, type BatchText } from "./batch.ts";

const OPTIONS: BatchOptions = { endTokens: [], maxStepTokens: 8, prefillChunk: undefined, maxDraft: 0 };

/** A model whose next token depends on the two tokens before it: texts soon repeat themselves. */
function nextToken(ids: readonly number[]): number {
  return ((ids.at(-1) ?? 0) * 3 + (ids.at(-2) ?? 0) + 1) % 7;
}

/**
 * Runs a batch with that model; checks that each step is one a model can run. Returns the texts' tokens and steps
 * taken.
 */
function run(texts: readonly BatchText[], options: BatchOptions): { tokens: number[][]; steps: number; batch: Batch } {
  const batch = new Batch(texts, options);
  const stored: number[][] = texts.map(() => []);
  const tokens: number[][] = texts.map(() => []);
  let steps = 0;
  for (; !batch.isDone; steps++) {
    const step = batch.next();
    const choices: number[] = [];
    let count = 0;
    for (const { text, ids, logits } of step.items) {
      const cache = stored[text] ?? [];
      count += ids.length;
      for (const [at, id] of ids.entries()) {
        cache.push(id);
        if (at >= ids.length - logits) choices.push(nextToken(cache));
      }
    }
    expect(count).toBeGreaterThan(0);
    expect(count).toBeLessThanOrEqual(options.maxStepTokens);
    for (const { text, tokens: made, stored: kept } of batch.accept(step, choices)) {
      tokens[text]?.push(...made);
      stored[text]?.splice(kept);
    }
    // What is stored is what the text says, but for a last token that is not fed back yet.
    for (const [text, cache] of stored.entries()) {
      const whole = [...(texts[text]?.prompt ?? []), ...(tokens[text] ?? [])];
      expect(cache).toEqual(whole.slice(0, cache.length));
    }
  }
  return { tokens, steps, batch };
}

/** What the model makes of a text by itself, token by token. */
function alone({ prompt, maxTokens }: BatchText, endTokens: readonly number[]): number[] {
  const ids = [...prompt];
  while (ids.length < prompt.length + maxTokens) {
    const token = nextToken(ids);
    if (endTokens.includes(token)) break;
    ids.push(token);
  }
  return ids.slice(prompt.length);
}

const anyText = fc.record({
  prompt: fc.array(fc.nat(6), { minLength: 1, maxLength: 20 }),
  maxTokens: fc.integer({ min: 1, max: 12 }),
});

test("however texts are continued together, each gets the tokens that it gets alone", () => {
  const anyOptions = fc.record({
    endTokens: fc.subarray([0, 6]),
    maxStepTokens: fc.integer({ min: 4, max: 12 }),
    prefillChunk: fc.option(fc.integer({ min: 1, max: 9 }), { nil: undefined }),
    maxDraft: fc.nat(5),
  });
  fc.assert(
    fc.property(fc.array(anyText, { minLength: 1, maxLength: 4 }), anyOptions, (texts, options) => {
      const { tokens, batch } = run(texts, options);
      expect(tokens).toEqual(texts.map((text) => alone(text, options.endTokens)));
      expect(batch.accepted).toBeLessThanOrEqual(batch.drafted);
      expect(batch.promptTokensDone).toBe(texts.reduce((sum, { prompt }) => sum + prompt.length, 0));
    }),
  );
});

describe("a step", () => {
  const texts = [
    { prompt: [1, 2], maxTokens: 5 },
    { prompt: [3, 4, 5, 6, 1, 2, 3, 4, 5, 6], maxTokens: 5 },
  ];

  test("takes every text that decodes, and prompts in what is left", () => {
    const batch = new Batch(texts, OPTIONS);
    const first = batch.next();
    expect(first.items.map(({ text, ids, logits }) => [text, ids.length, logits])).toEqual([
      [0, 2, 1],
      [1, 6, 0],
    ]);
    batch.accept(first, [5]);
    expect(batch.next().items).toEqual([
      { text: 0, ids: [5], drafted: 0, logits: 1 },
      { text: 1, ids: [3, 4, 5, 6], drafted: 0, logits: 1 },
    ]);
  });

  test("prefills one prompt at a time when prompts are cut into chunks", () => {
    const batch = new Batch(texts, { ...OPTIONS, prefillChunk: 4 });
    const seen: unknown[] = [];
    while (seen.length < 5) {
      const step = batch.next();
      seen.push([step.isPrefill, step.items.map(({ text, ids }) => [text, ids.length])]);
      batch.accept(
        step,
        step.items.flatMap(({ logits }) => Array<number>(logits).fill(2)),
      );
    }
    expect(seen).toEqual([
      [true, [[0, 2]]],
      [true, [[1, 4]]],
      [true, [[1, 4]]],
      [true, [[1, 2]]],
      [
        false,
        [
          [0, 1],
          [1, 1],
        ],
      ],
    ]);
  });

  test("never drafts beyond the tokens that are left", () => {
    const batch = new Batch([{ prompt: [1, 2, 1, 2, 1], maxTokens: 3 }], { ...OPTIONS, maxDraft: 5 });
    batch.accept(batch.next(), [2]);
    const step = batch.next();
    expect(step.items[0]).toMatchObject({ ids: [2, 1], drafted: 1, logits: 2 });
    expect(batch.accept(step, [4, 6])).toEqual([{ text: 0, tokens: [4], stored: 6 }]);
    expect([batch.drafted, batch.accepted]).toEqual([1, 0]);
  });
});

test("drafts that hold save steps", () => {
  const text = [{ prompt: [1, 2, 3], maxTokens: 60 }];
  const plain = run(text, OPTIONS);
  const drafted = run(text, { ...OPTIONS, maxDraft: 4 });
  expect(drafted.tokens).toEqual(plain.tokens);
  expect(drafted.steps).toBeLessThan(plain.steps);
});
