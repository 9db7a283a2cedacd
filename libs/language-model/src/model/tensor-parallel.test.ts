import { describe, expect, test } from "bun:test";
import { UnfitOptions } from "../errors.ts";
import {
  checkParallelSizes,
  chooseKvLayout,
  chunk,
  type KvHeadLayout,
  lengthOf,
  type Range,
  rankShare,
} from "./tensor-parallel.ts";

const MODEL = { queryHeads: 8, kvHeads: 2, intermediateSize: 704, vocabularySize: 4096 };

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
        if (kvLayout === "sharded" && (world % 2 !== 0 || (world / 2) % dcp !== 0)) continue;
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
            expect(lengthOf(share.kvHeads)).toBe(kvLayout === "sharded" ? 1 : 2);
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

test("auto shards KV heads where that is legal", () => {
  expect(chooseKvLayout(4, 4, 2)).toBe("replicated");
  expect(chooseKvLayout(4, 2, 2)).toBe("sharded");
  expect(chooseKvLayout(8, 4, 2)).toBe("sharded");
  expect(chooseKvLayout(1, 1, 2)).toBe("replicated");
  expect(chooseKvLayout(3, 1, 2)).toBe("replicated");
});

test.each([
  [{ world: 9, dcp: 9, kvLayout: "replicated" }, "`world` must be at most the model's 8 query heads, but is 9."],
  [{ world: 4, dcp: 3, kvLayout: "replicated" }, "`dcp` must divide `world` 4, but is 3."],
  [{ world: 4, dcp: 4, kvLayout: "sharded" }, "`dcp` 4 does not divide the 2 ranks that share a KV head"],
  [{ world: 3, dcp: 1, kvLayout: "sharded" }, "the model's 2 KV heads do not divide `world` 3"],
  [{ world: 1, dcp: 1, kvLayout: "sharded" }, "the model's 2 KV heads do not divide `world` 1"],
] as const)("refuses %p", (sizes, message) => {
  expect(() => checkParallelSizes(sizes, 8, 2)).toThrow(UnfitOptions);
  expect(() => checkParallelSizes(sizes, 8, 2)).toThrow(message);
});
