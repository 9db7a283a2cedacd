import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { UnfitOptions } from "../errors.ts";
import {
  checkParallelSizes,
  chooseKvLayout,
  chunk,
  type KvHeadLayout,
  leastDcp,
  lengthOf,
  type Range,
  rankShare,
} from "./tensor-parallel.ts";

const MODEL = { queryHeads: 8, kvHeads: 2, hiddenSize: 256, intermediateSize: 704, vocabularySize: 4096 };

/** Throws unless the ranges, in order, cover [0, end) without overlap. */
function expectPartition(ranges: readonly Range[], end: number): void {
  let at = 0;
  for (const range of ranges) {
    expect(range.start).toBe(at);
    at = range.end;
  }
  expect(at).toBe(end);
}

describe("every legal world of 8 query heads and 2 KV heads", () => {
  for (let world = 1; world <= 8; world++) {
    for (let dcp = 1; dcp <= world; dcp++) {
      for (const kvLayout of ["replicated", "sharded"] as const satisfies readonly KvHeadLayout[]) {
        if (world % dcp !== 0) continue;
        const groups = world / dcp;
        if (kvLayout === "sharded" && world > 1 && groups % 2 !== 0) continue;
        test(`TP${world} DCP${dcp} ${kvLayout}`, () => {
          const sizes = { world, dcp, kvLayout };
          checkParallelSizes(sizes, 8, 2);
          const shares = Array.from({ length: world }, (_, rank) => rankShare(sizes, rank, MODEL));
          expectPartition(
            shares.map((share) => share.queryHeads),
            8,
          );
          expectPartition(
            shares.map((share) => share.intermediate),
            704,
          );
          expectPartition(
            shares.map((share) => share.vocabulary),
            4096,
          );
          for (const [rank, share] of shares.entries()) {
            const group = Math.floor(rank / dcp) * dcp;
            expect(share.groupQueryHeads).toEqual({
              start: shares[group]?.queryHeads.start ?? -1,
              end: shares[group + dcp - 1]?.queryHeads.end ?? -1,
            });
            expect(share.queryHeads).toEqual(chunk(share.groupQueryHeads, rank % dcp, dcp));
            expect(lengthOf(share.kvHeads)).toBe(kvLayout === "sharded" && world > 1 ? 1 : 2);
            // The KV heads stored serve every query head of the group.
            expect(Math.floor(share.groupQueryHeads.start / 4)).toBeGreaterThanOrEqual(share.kvHeads.start);
            expect(Math.floor((share.groupQueryHeads.end - 1) / 4)).toBeLessThan(share.kvHeads.end);
          }
        });
      }
    }
  }
});

test.each([
  [704, [1, 2, 3, 4, 8, 22]],
  [703, [1, 2, 3, 4, 5, 21]],
  [8192, [1, 2, 4, 8]],
] as const)("%d columns are cut in units of 32, the last of which may be short", (columns, worlds) => {
  for (const world of worlds) {
    const sizes = { world, dcp: 1, kvLayout: "replicated" } as const;
    const model = { ...MODEL, queryHeads: 22, intermediateSize: columns };
    const shares = Array.from({ length: world }, (_, rank) => rankShare(sizes, rank, model).intermediate);
    expectPartition(shares, columns);
    const units = shares.map((share) => Math.ceil(lengthOf(share) / 32));
    expect(shares.every(({ start }) => start % 32 === 0)).toBe(true);
    expect(Math.max(...units) - Math.min(...units)).toBeLessThanOrEqual(1);
  }
});

test("too few columns for that are cut one by one", () => {
  const sizes = { world: 4, dcp: 1, kvLayout: "replicated" } as const;
  const model = { ...MODEL, intermediateSize: 127 };
  const shares = Array.from({ length: 4 }, (_, rank) => rankShare(sizes, rank, model).intermediate);
  expectPartition(shares, 127);
  expect(shares.map(lengthOf)).toEqual([31, 32, 32, 32]);
});

describe("world-invariant shares of the output projections", () => {
  const layouts: readonly (readonly [world: number, dcp: number, headsAreChunks: boolean])[] = [
    [1, 1, true],
    [3, 3, true],
    [5, 1, true],
    [6, 3, true],
    [6, 2, false],
    [8, 4, true],
  ];
  test.each(layouts)("TP%d DCP%d: rows are split, whole inputs come in", (world, dcp, headsAreChunks) => {
    const sizes = { world, dcp, kvLayout: "replicated", deterministic: "world-invariant" } as const;
    const shares = Array.from({ length: world }, (_, rank) => rankShare(sizes, rank, MODEL));
    for (const part of ["hidden", "intermediate", "queryHeads"] as const) {
      const [length, ranges] = {
        hidden: [MODEL.hiddenSize, shares.map(({ outputs }) => outputs.hidden)] as const,
        intermediate: [MODEL.intermediateSize, shares.map(({ intermediate }) => intermediate)] as const,
        queryHeads: [MODEL.queryHeads, shares.map(({ queryHeads }) => queryHeads)] as const,
      }[part];
      expectPartition(ranges, length);
      // What an all-gather takes of each rank.
      const chunks = ranges.map((_, rank) => chunk({ start: 0, end: length }, rank, world));
      if (part === "queryHeads" && !headsAreChunks) expect(ranges).not.toEqual(chunks);
      else expect(ranges).toEqual(chunks);
    }
    for (const { outputs } of shares) {
      expect(outputs).toMatchObject({ headsAreChunks, isGathered: world > 1 });
      expect(outputs.queryHeads).toEqual({ start: 0, end: MODEL.queryHeads });
      expect(outputs.intermediate).toEqual({ start: 0, end: MODEL.intermediateSize });
    }
  });
});

/** Sizes that may be legal or not: heads are any multiple of the KV heads. */
const sizes = fc
  .record({
    groups: fc.constantFrom(1, 2, 3, 4, 5, 7, 8),
    dcp: fc.constantFrom(1, 2, 3, 4, 8),
    kvHeads: fc.constantFrom(1, 2, 3, 4, 5, 7, 8, 16),
    headsPerKv: fc.integer({ min: 1, max: 9 }),
    kvLayout: fc.constantFrom("replicated" as const, "sharded" as const),
  })
  .map(({ groups, dcp, kvHeads, headsPerKv, kvLayout }) => ({
    sizes: { world: groups * dcp, dcp, kvLayout },
    kvHeads,
    headsPerKv,
    model: { ...MODEL, queryHeads: kvHeads * headsPerKv, kvHeads },
  }));

test("query heads are projected once, their KV heads are stored in their group, by all of its ranks", () => {
  let sharded = 0;
  fc.assert(
    fc.property(sizes, ({ sizes: { world, dcp, kvLayout }, kvHeads, headsPerKv, model }) => {
      try {
        checkParallelSizes({ world, dcp, kvLayout }, model.queryHeads, kvHeads);
      } catch (error) {
        expect(error).toBeInstanceOf(UnfitOptions);
        return;
      }
      const shares = Array.from({ length: world }, (_, rank) => rankShare({ world, dcp, kvLayout }, rank, model));
      expectPartition(
        shares.map((share) => share.queryHeads),
        model.queryHeads,
      );
      const groups = world / dcp;
      const stored = new Array<number>(kvHeads).fill(0);
      for (let group = 0; group < groups; group++) {
        const [first, ...others] = shares.slice(group * dcp, (group + 1) * dcp);
        if (first === undefined) expect.unreachable();
        // The ranks of a group deal the tokens of the same KV heads among them, for the same query heads.
        for (const other of others) {
          expect(other.kvHeads).toEqual(first.kvHeads);
          expect(other.groupQueryHeads).toEqual(first.groupQueryHeads);
        }
        for (let head = first.groupQueryHeads.start; head < first.groupQueryHeads.end; head++) {
          const kvHead = Math.floor(head / headsPerKv);
          expect(first.kvHeads.start <= kvHead && kvHead < first.kvHeads.end).toBe(true);
        }
        for (let head = first.kvHeads.start; head < first.kvHeads.end; head++) stored[head] = (stored[head] ?? 0) + 1;
      }
      // Every KV head is whole as often as the next, and no more often than its groups need.
      const times = kvLayout === "replicated" ? groups : Math.max(1, groups / kvHeads);
      expect(stored).toEqual(stored.map(() => times));
      if (kvLayout === "sharded" && groups > 1) sharded++;
    }),
    { numRuns: 500 },
  );
  expect(sharded).toBeGreaterThan(20);
});

test("by default no KV head is stored twice, and no fewer ranks split its tokens so", () => {
  fc.assert(
    fc.property(sizes, ({ sizes: { world }, kvHeads, model }) => {
      fc.pre(world <= model.queryHeads);
      const copies = (dcp: number): number => {
        const chosen = { world, dcp, kvLayout: chooseKvLayout(world, dcp, kvHeads) };
        checkParallelSizes(chosen, model.queryHeads, kvHeads);
        const shares = Array.from({ length: world }, (_, rank) => rankShare(chosen, rank, model));
        return shares.reduce((sum, share) => sum + lengthOf(share.kvHeads), 0) / dcp / kvHeads;
      };
      const least = leastDcp(world, kvHeads, "auto");
      expect(copies(least)).toBe(1);
      for (let dcp = 1; dcp < least; dcp++) if (world % dcp === 0) expect(copies(dcp)).toBeGreaterThan(1);
    }),
  );
});

test.each([
  [1, 2, 1],
  [2, 2, 1],
  [4, 2, 2],
  [8, 2, 4],
  [4, 8, 1],
  [8, 8, 1],
  [6, 4, 3],
  [3, 2, 3],
  [4, 1, 4],
])(
  "%d ranks, %d KV heads: DCP %d by default, of all ranks where every rank stores all KV heads",
  (world, kvHeads, dcp) => {
    expect(leastDcp(world, kvHeads, "auto")).toBe(dcp);
    expect(leastDcp(world, kvHeads, "sharded")).toBe(dcp);
    expect(leastDcp(world, kvHeads, "replicated")).toBe(world);
  },
);

test("auto shards KV heads where that is legal", () => {
  expect(chooseKvLayout(4, 4, 2)).toBe("replicated");
  expect(chooseKvLayout(4, 2, 2)).toBe("sharded");
  expect(chooseKvLayout(8, 4, 2)).toBe("sharded");
  expect(chooseKvLayout(1, 1, 2)).toBe("replicated");
  expect(chooseKvLayout(3, 1, 2)).toBe("replicated");
  expect(chooseKvLayout(2, 1, 8)).toBe("sharded");
  expect(chooseKvLayout(2, 2, 8)).toBe("replicated");
  expect(chooseKvLayout(6, 3, 4)).toBe("sharded");
});

test.each([
  [{ world: 9, dcp: 9, kvLayout: "replicated" }, "`world` must be at most the model's 8 query heads, but is 9."],
  [{ world: 4, dcp: 3, kvLayout: "replicated" }, "`dcp` must divide `world` 4, but is 3."],
  [{ world: 4, dcp: 4, kvLayout: "sharded" }, "`dcp` 4 makes one group of all ranks, which stores all 2 KV heads"],
  [
    { world: 3, dcp: 1, kvLayout: "sharded" },
    "`world` 3 with `dcp` 1 makes 3 groups, which 2 KV heads cannot be split over",
  ],
] as const)("refuses %p", (sizes, message) => {
  expect(() => checkParallelSizes(sizes, 8, 2)).toThrow(UnfitOptions);
  expect(() => checkParallelSizes(sizes, 8, 2)).toThrow(message);
});
