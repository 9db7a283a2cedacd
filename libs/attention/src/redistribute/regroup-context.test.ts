// Laws of a move between any two layouts: every stored position moves once, to where the new layout looks for it.
import { describe, expect, test } from "bun:test";
import { type KvShard, kvBlockSize, kvSlot } from "@lockstep/kernels";
import fc from "fast-check";
import { OutOfBlocks } from "../errors.ts";
import { BlockManager } from "../kv/block-manager.ts";
import { type KvLayout, positionsOfBlock } from "./kv-layout.ts";
import { moveRounds } from "./move-rounds.ts";
import { regroupContext } from "./regroup-context.ts";
import { type RowRun, rowRuns } from "./row-runs.ts";

const layouts: fc.Arbitrary<KvLayout> = fc
  .record({
    weights: fc.array(fc.nat({ max: 3 }), { minLength: 1, maxLength: 8 }).filter((list) => list.some((w) => w > 0)),
    isWeighted: fc.boolean(),
    interleave: fc.integer({ min: 1, max: 3 }),
    turns: fc.integer({ min: 1, max: 3 }),
  })
  .map(({ weights, isWeighted, interleave, turns }) => ({
    count: weights.length,
    interleave,
    blockSize: interleave * turns,
    ...(isWeighted ? { weights } : {}),
  }));

/** Things that happen to a cache. Numbers choose among what there is. */
const events = fc.array(
  fc.record({
    kind: fc.constantFrom("create", "begin", "extend", "extend", "extend", "fork", "cut", "keep", "free", "forget"),
    which: fc.nat({ max: 9 }),
    amount: fc.nat({ max: 40 }),
  }),
  { minLength: 5, maxLength: 40 },
);

/** A cache of a layout, whose rows say which text they are of: all tokens up to theirs. */
class ModelCache {
  readonly manager: BlockManager;
  readonly layout: KvLayout;
  readonly texts = new Map<number, number[]>();
  readonly rows = new Map<string, string>();

  constructor(layout: KvLayout, numBlocks: number) {
    this.layout = layout;
    this.manager = new BlockManager(numBlocks, positionsOfBlock(layout));
  }

  /** Where a position of a sequence lies: shard and slot. Exactly one shard has it. */
  place(sequence: number, position: number): string {
    const { count, interleave, weights, blockSize } = this.layout;
    const found: string[] = [];
    for (let index = 0; index < count; index++) {
      const shard: KvShard = { index, count, interleave, ...(weights === undefined ? {} : { weights }) };
      const own = kvBlockSize(shard, blockSize);
      if (own === 0) continue;
      const slot = kvSlot(shard, position, own, this.manager.get(sequence).blocks);
      if (slot >= 0) found.push(`${index}:${slot}`);
    }
    expect(found.length).toBe(1);
    return found[0] ?? "";
  }

  extend(sequence: number, tokens: readonly number[]): void {
    const text = this.texts.get(sequence) ?? [];
    const { copies } = this.manager.extend([{ sequence, tokens: tokens.length }]);
    const { count, interleave, weights, blockSize } = this.layout;
    for (const { from, to } of copies) {
      for (let index = 0; index < count; index++) {
        const shard: KvShard = { index, count, interleave, ...(weights === undefined ? {} : { weights }) };
        const own = kvBlockSize(shard, blockSize);
        for (let at = 0; at < own; at++) {
          const row = this.rows.get(`${index}:${from * own + at}`);
          if (row !== undefined) this.rows.set(`${index}:${to * own + at}`, row);
        }
      }
    }
    for (const token of tokens) {
      text.push(token);
      this.rows.set(this.place(sequence, text.length - 1), text.join());
    }
    this.texts.set(sequence, text);
  }

  /** Every sequence reads its own text. */
  expectSound(): void {
    for (const [sequence, text] of this.texts) {
      expect(this.manager.get(sequence).length).toBe(text.length);
      for (let at = 0; at < text.length; at++) {
        expect(this.rows.get(this.place(sequence, at))).toBe(text.slice(0, at + 1).join());
      }
    }
  }
}

type Events = typeof events extends fc.Arbitrary<infer E> ? E : never;

function happen(cache: ModelCache, list: Events, seed: number): void {
  for (const [at, { kind, which, amount }] of list.entries()) {
    const ids = [...cache.texts.keys()];
    const sequence = ids[which % Math.max(1, ids.length)];
    const tokens = Array.from({ length: amount }, (_, place) => (place + which + seed) % 3);
    try {
      if (kind === "begin") {
        const begun = cache.manager.createSequenceFrom(tokens);
        cache.texts.set(begun.sequence, tokens.slice(0, begun.cached));
        cache.extend(begun.sequence, tokens.slice(begun.cached));
      } else if (kind === "create" || sequence === undefined) {
        cache.texts.set(cache.manager.createSequence(), []);
      } else if (kind === "extend") {
        cache.extend(sequence, tokens.slice(0, 1 + (at % 12)));
      } else if (kind === "fork") {
        cache.texts.set(cache.manager.fork(sequence), [...(cache.texts.get(sequence) ?? [])]);
      } else if (kind === "cut") {
        const text = cache.texts.get(sequence) ?? [];
        text.length = Math.floor((text.length * amount) / 40);
        cache.manager.truncate(sequence, text.length);
      } else if (kind === "keep") {
        cache.manager.keepPrefix(sequence, cache.texts.get(sequence) ?? []);
      } else if (kind === "free") {
        cache.manager.free(sequence);
        cache.texts.delete(sequence);
      } else {
        cache.manager.forgetPrefixes();
      }
    } catch (error) {
      if (!(error instanceof OutOfBlocks)) throw error;
    }
  }
}

/** Moves a context, and checks each row on its way. */
function moved(old: ModelCache, layout: KvLayout, numBlocks: number): { next: ModelCache; runs: RowRun[] } {
  const sizes = [positionsOfBlock(old.layout), positionsOfBlock(layout)] as const;
  const { image, moves } = regroupContext(old.manager.image, ...sizes, numBlocks);
  const next = new ModelCache(layout, numBlocks);
  next.manager.adopt(image);
  const runs = [...rowRuns(old.layout, layout, moves)];
  const places = new Set<string>();
  for (const { from, fromSlot, to, toSlot, count } of runs) {
    expect(count).toBeGreaterThan(0);
    for (let at = 0; at < count; at++) {
      const row = old.rows.get(`${from}:${fromSlot + at}`);
      expect(row).toBeDefined();
      const place = `${to}:${toSlot + at}`;
      expect(places.has(place)).toBe(false);
      places.add(place);
      next.rows.set(place, row ?? "");
    }
  }
  expect(places.size).toBe(moves.reduce((sum, { start, end }) => sum + end - start, 0));
  for (const [sequence, text] of old.texts) next.texts.set(sequence, [...text]);
  return { next, runs };
}

describe("a context that moves between any two layouts", () => {
  test("stores every row of every sequence where the new layout looks for it, each once", () => {
    fc.assert(
      fc.property(layouts, layouts, events, fc.nat(), (from, to, list, seed) => {
        const old = new ModelCache(from, Math.ceil(300 / positionsOfBlock(from)));
        happen(old, list, seed);
        old.expectSound();
        const { next } = moved(old, to, 300);
        next.expectSound();
        expect(next.manager.nextSequence).toBe(old.manager.nextSequence);
        // It goes on as any other: forks and known blocks are not written over.
        happen(next, list, seed + 1);
        next.expectSound();
      }),
      { numRuns: 300 },
    );
  });

  test("keeps what is known, as far as full blocks of the new size go, and nothing else", () => {
    fc.assert(
      fc.property(layouts, layouts, events, fc.nat(), (from, to, list, seed) => {
        const [fromSize, toSize] = [positionsOfBlock(from), positionsOfBlock(to)];
        const old = new ModelCache(from, Math.ceil(300 / fromSize));
        happen(old, list, seed);
        const texts = [...old.texts.values()];
        const probes = [...texts, Array.from({ length: 40 }, (_, at) => (at + seed) % 3)].map((text) => [...text, 9]);
        const before = probes.map((text) => old.manager.knownPrefix(text));
        const { next } = moved(old, to, 300);
        for (const [at, text] of probes.entries()) {
          const known = next.manager.knownPrefix(text);
          expect(known % toSize).toBe(0);
          // As far as a text was known it still is; beyond, where other texts that were known begin alike in part.
          expect(known).toBeGreaterThanOrEqual(Math.floor((before[at] ?? 0) / toSize) * toSize);
          expect(known).toBeLessThan((before[at] ?? 0) + fromSize);
        }
        // What the cache says it knows is what the rows hold.
        for (const text of probes) {
          const { sequence, cached } = next.manager.createSequenceFrom(text);
          next.texts.set(sequence, text.slice(0, cached));
        }
        next.expectSound();
      }),
      { numRuns: 200 },
    );
  });

  test("takes no more rows than are stored, and as many blocks as before when nothing but the deal changes", () => {
    fc.assert(
      fc.property(layouts, events, fc.nat(), (layout, list, seed) => {
        const old = new ModelCache(layout, Math.ceil(300 / positionsOfBlock(layout)));
        happen(old, list, seed);
        const { next, runs } = moved(old, layout, old.manager.totalBlocks);
        expect(next.manager.freeBlocks).toBe(old.manager.freeBlocks);
        expect(next.manager.knownBlocks).toBe(old.manager.knownBlocks);
        expect(next.manager.listKnown().map(({ tokens }) => tokens)).toEqual(
          old.manager.listKnown().map(({ tokens }) => tokens),
        );
        // Nothing that stays is sent.
        for (const { from, to } of runs) expect(to).toBe(from);
        const used = new Set(old.manager.image.sequences.flatMap(({ blocks }) => blocks));
        for (const { block } of old.manager.listKnown()) used.add(block);
        const rows = runs.reduce((sum, { count }) => sum + count, 0);
        expect(rows).toBeLessThanOrEqual(used.size * positionsOfBlock(layout));
      }),
      { numRuns: 100 },
    );
  });

  test("is refused when sequences do not fit, and drops what is known first", () => {
    const from = { count: 1, interleave: 1, blockSize: 4 };
    const old = new ModelCache(from, 20);
    const first = old.manager.createSequence();
    old.extend(
      first,
      Array.from({ length: 20 }, (_, at) => at),
    );
    old.manager.keepPrefix(first, old.texts.get(first) ?? []);
    old.manager.free(first);
    old.texts.clear();
    const second = old.manager.createSequence();
    old.extend(
      second,
      Array.from({ length: 9 }, () => 50),
    );
    const to = { count: 2, interleave: 1, blockSize: 2 };
    const { image, forgottenTokens } = regroupContext(old.manager.image, 4, positionsOfBlock(to), 5);
    expect(image.known.length).toBe(2);
    expect(forgottenTokens).toBe(12);
    expect(image.known.map(({ tokens }) => tokens)).toEqual([
      [0, 1, 2, 3],
      [4, 5, 6, 7],
    ]);
    expect(() => regroupContext(old.manager.image, 4, 4, 2)).toThrow(OutOfBlocks);
  });

  test("goes in rounds that no rank exceeds", () => {
    fc.assert(
      fc.property(
        layouts,
        layouts,
        fc.integer({ min: 1, max: 200 }),
        fc.integer({ min: 1, max: 20 }),
        (from, to, length, most) => {
          const old = new ModelCache(from, 300);
          const sequence = old.manager.createSequence();
          old.extend(
            sequence,
            Array.from({ length }, () => 1),
          );
          const { runs } = moved(old, to, 300);
          const ranks = (layout: KvLayout, first: number) =>
            Array.from({ length: layout.count }, (_, at) => first + at);
          const rounds = [...moveRounds(runs, { from: ranks(from, 0), to: ranks(to, 2) }, most)];
          let rows = 0;
          for (const round of rounds) {
            const counts = new Map<string, number>();
            for (const run of round) {
              rows += run.count;
              const ways = run.from === run.to ? [`kept ${run.to}`] : [`from ${run.from}`, `to ${run.to}`];
              for (const way of ways) counts.set(way, (counts.get(way) ?? 0) + run.count);
            }
            expect(Math.max(...counts.values())).toBeLessThanOrEqual(most);
          }
          expect(rows).toBe(length);
        },
      ),
    );
  });
});
