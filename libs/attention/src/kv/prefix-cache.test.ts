import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { ArgumentError } from "@lockstep/tensor";
import fc from "fast-check";
import { OutOfBlocks } from "../errors.ts";
import { BlockManager } from "./block-manager.ts";

setDefaultTimeout(60_000);

/** A sequence that stores these tokens, which are known where they fill blocks. */
function stored(manager: BlockManager, ids: readonly number[]): number {
  const { sequence, cached } = manager.createSequenceFrom(ids);
  manager.extend([{ sequence, tokens: ids.length - cached }]);
  manager.keepPrefix(sequence, ids);
  return sequence;
}

describe("what is known", () => {
  test("a text finds the full blocks that it shares, but never its own last token", () => {
    const manager = new BlockManager(8, 2);
    manager.free(stored(manager, [1, 2, 3, 4, 5]));
    expect(manager.knownPrefix([1, 2, 3, 4, 5, 6])).toBe(4);
    expect(manager.knownPrefix([1, 2, 3, 4])).toBe(2);
    expect(manager.knownPrefix([1, 2, 4, 4, 5])).toBe(2);
    expect(manager.knownPrefix([3, 4, 5])).toBe(0);
    expect(manager.knownPrefix([])).toBe(0);
    const { sequence, cached } = manager.createSequenceFrom([1, 2, 3, 4, 9]);
    expect(cached).toBe(4);
    expect(manager.get(sequence)).toEqual({ length: 4, blocks: [0, 1] });
  });

  test("known blocks that nobody holds are free, and taken after all others: the end of the oldest text first", () => {
    const manager = new BlockManager(6, 2);
    const [old, recent] = [stored(manager, [1, 1, 1, 2]), stored(manager, [2, 1, 2, 2])];
    manager.free(old);
    manager.free(recent);
    expect([manager.freeBlocks, manager.knownBlocks]).toEqual([6, 4]);
    const other = manager.createSequence();
    manager.extend([{ sequence: other, tokens: 4 }]);
    expect(manager.get(other).blocks).toEqual([4, 5]);
    expect(manager.knownBlocks).toBe(4);
    manager.extend([{ sequence: other, tokens: 1 }]);
    expect(manager.get(other).blocks).toEqual([4, 5, 1]);
    expect(manager.knownPrefix([1, 1, 1, 2, 0])).toBe(2);
    // To be used is to become the last to be taken.
    manager.free(manager.createSequenceFrom([1, 1, 0]).sequence);
    manager.extend([{ sequence: other, tokens: 4 }]);
    expect(manager.get(other).blocks).toEqual([4, 5, 1, 2, 3]);
    expect([manager.knownPrefix([1, 1, 0]), manager.knownPrefix([2, 1, 0])]).toEqual([2, 0]);
    expect(() => manager.extend([{ sequence: other, tokens: 4 }])).toThrow(OutOfBlocks);
    expect(manager.knownPrefix([1, 1, 0])).toBe(2);
  });

  test("two sequences that stored the same go on with one block", () => {
    const manager = new BlockManager(8, 2);
    const [a, b] = [manager.createSequence(), manager.createSequence()];
    manager.extend([
      { sequence: a, tokens: 5 },
      { sequence: b, tokens: 5 },
    ]);
    manager.keepPrefix(a, [7, 8, 9, 9, 1]);
    manager.keepPrefix(b, [7, 8, 9, 8, 1]);
    expect(manager.get(a).blocks).toEqual([0, 1, 2]);
    expect(manager.get(b).blocks).toEqual([0, 4, 5]);
    expect([manager.holders(0), manager.holders(3), manager.freeBlocks]).toEqual([2, 0, 3]);
  });

  test("a sequence cut back into a known block gets a copy while others hold it; alone it makes it unknown", () => {
    const manager = new BlockManager(8, 4);
    const a = stored(manager, [1, 2, 3, 4, 5, 6, 7, 8]);
    const b = manager.createSequenceFrom([1, 2, 3, 4, 5, 6, 7, 8, 9]).sequence;
    manager.truncate(a, 6);
    expect(manager.extend([{ sequence: a, tokens: 1 }]).copies).toEqual([{ from: 1, to: 2 }]);
    expect(manager.knownPrefix([1, 2, 3, 4, 5, 6, 7, 8, 9])).toBe(8);
    manager.truncate(b, 6);
    expect(manager.extend([{ sequence: b, tokens: 2 }]).copies).toEqual([]);
    expect(manager.knownPrefix([1, 2, 3, 4, 5, 6, 7, 8, 9])).toBe(4);
    manager.keepPrefix(b, [1, 2, 3, 4, 5, 6, 0, 0]);
    expect(manager.knownPrefix([1, 2, 3, 4, 5, 6, 0, 0, 9])).toBe(8);
  });

  test("what continues a block that became unknown is unknown too, and free for anything", () => {
    const manager = new BlockManager(4, 2);
    const a = stored(manager, [1, 2, 3, 4, 5, 6]);
    manager.truncate(a, 1);
    expect([manager.freeBlocks, manager.knownBlocks]).toEqual([3, 2]);
    manager.extend([{ sequence: a, tokens: 1 }]);
    expect([manager.freeBlocks, manager.knownBlocks]).toEqual([3, 0]);
    expect(manager.listKnown()).toEqual([]);
  });

  test("a prefix cache never makes a step fail that would fit without one", () => {
    const manager = new BlockManager(2, 2);
    const a = stored(manager, [1, 2, 3, 4]);
    manager.truncate(a, 3);
    expect(manager.extend([{ sequence: a, tokens: 1 }]).copies).toEqual([]);
  });

  test("keepPrefix looks at new blocks only, and refuses what cannot be", () => {
    const manager = new BlockManager(8, 2);
    const a = stored(manager, [1, 2, 3]);
    const ids = [1, 2, 3];
    // Tokens told before are not read again.
    Object.defineProperty(ids, 0, {
      get: () => {
        throw new Error("read again");
      },
    });
    manager.keepPrefix(a, ids);
    expect(() => manager.keepPrefix(a, [1, 2, 3, 4])).toThrow("at most the 3 tokens");
    expect(() => manager.keepPrefix(a, [1, 2, 0.5])).toThrow(ArgumentError);
    expect(() => manager.keepPrefix(99, [1])).toThrow(ArgumentError);
    const fork = manager.createSequence();
    for (const id of [-1, Number.NaN, 2 ** 31, "1"]) {
      expect(() => manager.createSequenceFrom([1, id as number])).toThrow(ArgumentError);
      expect(() => manager.knownPrefix([1, id as number])).toThrow(ArgumentError);
    }
    manager.extend([{ sequence: fork, tokens: 2 }]);
    const other = manager.fork(fork);
    manager.keepPrefix(fork, [5, 6]);
    expect(() => manager.keepPrefix(other, [5, 7])).toThrow("known to hold");
    expect(() => manager.keepPrefix(other, [1, 2])).toThrow("known to hold");
    manager.keepPrefix(other, [5, 6]);
  });

  test("forgetPrefixes forgets all; sequences may tell again", () => {
    const manager = new BlockManager(4, 2);
    const a = stored(manager, [1, 2, 3, 4]);
    manager.free(stored(manager, [5, 6, 7]));
    manager.forgetPrefixes();
    expect([manager.freeBlocks, manager.knownBlocks]).toEqual([2, 0]);
    expect(manager.knownPrefix([1, 2, 3, 4, 5])).toBe(0);
    manager.keepPrefix(a, [1, 2, 3, 4]);
    expect(manager.knownPrefix([1, 2, 3, 4, 5])).toBe(4);
  });

  test("what is put back: parents first, what is known already not twice, and only what has room", () => {
    const manager = new BlockManager(4, 2);
    const list = [
      { parent: -1, tokens: [1, 2] },
      { parent: 0, tokens: [3, 4] },
      { parent: 1, tokens: [5, 6] },
      { parent: -1, tokens: [1, 9] },
    ];
    const a = stored(manager, [1, 2]);
    const { blocks, commit } = manager.reserveKnown(list);
    expect(blocks).toMatchObject([
      { index: 1, block: 1 },
      { index: 2, block: 2 },
      { index: 3, block: 3 },
    ]);
    expect(manager.freeBlocks).toBe(0);
    expect(manager.knownPrefix([1, 2, 3, 4, 5, 6, 7])).toBe(2);
    commit();
    expect([manager.freeBlocks, manager.knownBlocks]).toEqual([3, 3]);
    expect(manager.knownPrefix([1, 2, 3, 4, 5, 6, 7])).toBe(6);
    expect(manager.reserveKnown([{ parent: -1, tokens: [7, 7] }]).blocks).toEqual([]);
    manager.extend([{ sequence: a, tokens: 1 }]);
    // The end of the list is the oldest.
    expect(manager.get(a).blocks).toEqual([0, 3]);
    expect(() => manager.reserveKnown([{ parent: -1, tokens: [7] }])).toThrow("2 tokens, as a block holds");
    expect(() => manager.reserveKnown([{ parent: -1, tokens: [7, -1] }])).toThrow(ArgumentError);
  });
});

const SIZE = 2;
const SLOTS = 5;

/**
 * A cache whose every place holds the text up to its token, as a key does, which follows from all tokens before it.
 * What steps do to it is done through block tables.
 */
class TextCache {
  readonly manager: BlockManager;
  readonly #places: string[];
  /** Tokens of the sequences. */
  readonly texts = new Map<number, number[]>();

  constructor(total: number) {
    this.manager = new BlockManager(total, SIZE);
    this.#places = new Array<string>(total * SIZE).fill("");
  }

  /** Appends tokens to sequences in one step; a cancelled one has written all of them before it is taken back. */
  step(items: readonly { readonly sequence: number; readonly ids: readonly number[] }[], isCancelled: boolean): void {
    const { manager } = this;
    const { copies, undo } = manager.extend(items.map(({ sequence, ids }) => ({ sequence, tokens: ids.length })));
    for (const { from, to } of copies) this.#places.splice(to * SIZE, SIZE, ...this.read([from], SIZE));
    for (const { sequence, ids } of items) {
      const text = [...(this.texts.get(sequence) ?? [])];
      for (const id of ids) {
        const block = manager.get(sequence).blocks[Math.floor(text.length / SIZE)] ?? -1;
        text.push(isCancelled ? 99 : id);
        this.#places[block * SIZE + ((text.length - 1) % SIZE)] = text.join();
      }
      if (!isCancelled) this.texts.set(sequence, text);
    }
    if (isCancelled) undo();
  }

  read(blocks: readonly number[], length: number): string[] {
    return Array.from(
      { length },
      (_, at) => this.#places[(blocks[Math.floor(at / SIZE)] ?? -1) * SIZE + (at % SIZE)] ?? "",
    );
  }

  /** Forgets what is known and puts a copy of it back, as much as finds room. */
  reload(isCancelled: boolean): void {
    const { manager } = this;
    const known = manager.listKnown();
    const held = known.map(({ block }) => this.read([block], SIZE));
    const places = new Map(known.map(({ block }, index) => [block, index]));
    const list = known.map(({ parent, tokens }) => ({ parent: places.get(parent ?? -1) ?? -1, tokens }));
    manager.forgetPrefixes();
    const { freeBlocks } = manager;
    const { blocks, commit, cancel } = manager.reserveKnown(list);
    expect(blocks.map(({ index }) => index)).toEqual([...list.keys()].slice(0, freeBlocks));
    for (const { index, block } of blocks) this.#places.splice(block * SIZE, SIZE, ...(held[index] ?? []));
    if (isCancelled) cancel();
    else commit();
    expect(manager.freeBlocks).toBe(freeBlocks);
    expect(manager.knownBlocks).toBe(isCancelled ? 0 : blocks.length);
    // In the same order: what was used last is the last to be taken again.
    const after = manager.listKnown().map(({ tokens }) => tokens);
    expect(after).toEqual(isCancelled ? [] : list.slice(0, freeBlocks).map(({ tokens }) => tokens));
    expect(manager.reserveKnown([]).blocks).toEqual([]);
  }

  /** Every sequence reads its own text, every known block holds what it is known for, and no block is lost. */
  check(): void {
    const { manager } = this;
    const texts = new Map<number | undefined, readonly number[]>([[undefined, []]]);
    for (const { block, parent, tokens } of manager.listKnown()) {
      const text = [...(texts.get(parent) ?? [-1]), ...tokens];
      texts.set(block, text);
      expect(this.read([block], SIZE)).toEqual(prefixes(text).slice(-SIZE));
      expect(manager.knownPrefix([...text, 0])).toBe(text.length);
    }
    const held = new Set([...this.texts.keys()].flatMap((sequence) => manager.get(sequence).blocks));
    expect(held.size + manager.freeBlocks).toBe(manager.totalBlocks);
    expect(manager.knownBlocks).toBe(
      [...texts.keys()].filter((block) => block !== undefined && !held.has(block)).length,
    );
    for (const [sequence, text] of this.texts) {
      const { length, blocks } = manager.get(sequence);
      expect(length).toBe(text.length);
      expect(blocks.length).toBe(Math.ceil(length / SIZE));
      expect(this.read(blocks, length)).toEqual(prefixes(text));
    }
  }
}

function prefixes(text: readonly number[]): string[] {
  return text.map((_, at) => text.slice(0, at + 1).join());
}

/** Mostly the same, so that texts begin alike. */
const ids = fc.array(
  fc.nat(5).map((drawn) => (drawn === 0 ? 1 : 0)),
  { maxLength: 9, size: "max" },
);
const slot = fc.nat(SLOTS - 1);
type Action =
  | {
      readonly do: "append";
      readonly to: readonly number[];
      readonly ids: readonly number[];
      readonly isCancelled: boolean;
    }
  | { readonly do: "from"; readonly slot: number; readonly ids: readonly number[]; readonly isServed: boolean }
  | { readonly do: "fork" | "keep" | "free" | "forget" | "reload" | "cancelled reload"; readonly slot: number }
  | { readonly do: "truncate"; readonly slot: number; readonly length: number };
const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("append" as const),
      to: fc.uniqueArray(slot, { minLength: 1, maxLength: 3 }),
      ids,
      isCancelled: fc.integer({ min: 0, max: 4 }).map((drawn) => drawn === 0),
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("from" as const), slot, ids, isServed: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("keep" as const), slot }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom("fork" as const, "free" as const), slot }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("truncate" as const), slot, length: fc.nat(14) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("forget" as const, "reload", "cancelled reload"), slot }) },
);

/** Does what an action says to the sequences in the slots; returns how many cached tokens were found. */
function act(cache: TextCache, slots: Map<number, number>, taken: Action): number {
  const { manager, texts } = cache;
  const put = (at: number, sequence: number, text: readonly number[]): void => {
    const old = slots.get(at);
    if (old !== undefined) {
      manager.free(old);
      texts.delete(old);
    }
    slots.set(at, sequence);
    texts.set(sequence, [...text]);
  };
  const of = (at: number): number => {
    if (!slots.has(at)) put(at, manager.createSequence(), []);
    return slots.get(at) ?? -1;
  };
  const append = (...step: Parameters<TextCache["step"]>): void => {
    try {
      cache.step(...step);
    } catch (error) {
      expect(error).toBeInstanceOf(OutOfBlocks);
    }
  };
  switch (taken.do) {
    case "append":
      append(
        taken.to.map((at, index) => ({ sequence: of(at), ids: taken.ids.slice(index) })),
        taken.isCancelled,
      );
      return 0;
    case "from": {
      const { sequence, cached } = manager.createSequenceFrom(taken.ids);
      expect(cached).toBeLessThanOrEqual(Math.max(0, taken.ids.length - 1));
      put(taken.slot, sequence, taken.ids.slice(0, cached));
      if (taken.isServed) {
        append([{ sequence, ids: taken.ids.slice(cached) }], false);
        manager.keepPrefix(sequence, texts.get(sequence) ?? []);
      }
      return cached;
    }
    case "keep": {
      const text = texts.get(of(taken.slot)) ?? [];
      manager.keepPrefix(of(taken.slot), text);
      expect(manager.knownPrefix([...text, 0])).toBe(text.length - (text.length % SIZE));
      return 0;
    }
    case "fork": {
      const from = of(taken.slot);
      put((taken.slot + 1) % SLOTS, manager.fork(from), texts.get(from) ?? []);
      return 0;
    }
    case "free":
      manager.free(of(taken.slot));
      texts.delete(of(taken.slot));
      slots.delete(taken.slot);
      return 0;
    case "truncate": {
      const text = texts.get(of(taken.slot)) ?? [];
      text.length = Math.min(text.length, taken.length);
      manager.truncate(of(taken.slot), text.length);
      return 0;
    }
    case "reload":
    case "cancelled reload":
      cache.reload(taken.do === "cancelled reload");
      return 0;
    case "forget":
      manager.forgetPrefixes();
      expect(manager.listKnown()).toEqual([]);
      return 0;
  }
}

test("whatever is done, sequences read their own text, known blocks hold theirs, and twins have the same tables", () => {
  let found = 0;
  fc.assert(
    fc.property(fc.array(action, { maxLength: 50, size: "max" }), fc.integer({ min: 4, max: 20 }), (actions, total) => {
      const [cache, twin] = [new TextCache(total), new TextCache(total)];
      const [slots, twinSlots] = [new Map<number, number>(), new Map<number, number>()];
      for (const taken of actions) {
        found += act(cache, slots, taken);
        act(twin, twinSlots, taken);
        cache.check();
        expect(twinSlots).toEqual(slots);
        const tables = (of: TextCache) => [...of.texts.keys()].map((sequence) => of.manager.get(sequence));
        expect(tables(twin)).toEqual(tables(cache));
        expect(twin.manager.listKnown()).toEqual(cache.manager.listKnown());
      }
    }),
    { numRuns: 250 },
  );
  expect(found).toBeGreaterThan(100);
});
