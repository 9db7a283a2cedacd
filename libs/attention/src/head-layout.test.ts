import { expect, test } from "bun:test";
import { type ParallelSizes, parallelGroups } from "@lockstep/dist-groups";
import { ArgumentError } from "@lockstep/tensor";
import fc from "fast-check";
import { headLayout } from "./head-layout.ts";

const classic = (tp: number, dcp: number): ParallelSizes => ({ layout: "classic", tp, dcp });

test("head-sharded GQA: the ranks of a DCP group share a KV head", () => {
  const layout = { sizes: classic(8, 2), kv: "head-sharded", queryHeads: 32, kvHeads: 4 } as const;
  expect(headLayout(layout, 5)).toEqual({
    ownQueryHeads: { start: 20, end: 24, count: 4 },
    groupQueryHeads: { start: 16, end: 24, count: 8 },
    kvHeads: { start: 2, end: 3, count: 1 },
    headGroup: { size: 8, offset: 0 },
  });
});

test("replicated KV: DCP up to TP, and 3 ranks serve 8 heads", () => {
  const layout = { sizes: classic(3, 3), kv: "replicated", queryHeads: 8, kvHeads: 2 } as const;
  expect([0, 1, 2].map((rank) => headLayout(layout, rank).ownQueryHeads.count)).toEqual([2, 3, 3]);
  expect(headLayout(layout, 1)).toMatchObject({
    groupQueryHeads: { start: 0, end: 8 },
    kvHeads: { start: 0, end: 2 },
    headGroup: { size: 4, offset: 0 },
  });
});

test.each([
  ["TP8 DCP4 with 4 KV heads", classic(8, 4), 32, 4, "dcp", "tp / kvHeads = 2", "4 with tp 8 and 4 KV heads"],
  ["TP4 DCP2 with 8 KV heads", classic(4, 2), 32, 8, "kvHeads", "divisor of tp = 4", "8"],
  ["TP6 DCP3 with 4 KV heads", classic(6, 3), 32, 4, "kvHeads", "divisor of tp = 6", "4"],
  [
    "orthogonal TP2 PCP2 DCP4 with 2 KV heads",
    { layout: "orthogonal", tp: 2, pcp: 2, dcp: 4 },
    8,
    2,
    "dcp",
    "tp / kvHeads = 1",
    "4 with tp 2 and 2 KV heads",
  ],
] as const)(
  "head-sharded KV over %s is refused beyond its limit",
  (_, sizes, queryHeads, kvHeads, argument, ...says) => {
    const make = (): unknown => headLayout({ sizes, kv: "head-sharded", queryHeads, kvHeads }, 0);
    expect(make).toThrow(ArgumentError);
    for (const text of [argument, ...says]) expect(make).toThrow(text);
    // The same sizes with all KV heads on every rank are legal.
    expect(() => headLayout({ sizes, kv: "replicated", queryHeads, kvHeads }, 0)).not.toThrow();
  },
);

test("query heads that are no multiple of the KV heads are refused", () => {
  expect(() => headLayout({ sizes: classic(1, 1), kv: "replicated", queryHeads: 7, kvHeads: 2 }, 0)).toThrow(
    "`queryHeads` must be a multiple of kvHeads = 2, but is 7",
  );
});

test("every query head has one owner per PCP rank, and its KV head is stored where it is attended for", () => {
  const size = fc.integer({ min: 1, max: 4 });
  fc.assert(
    fc.property(
      fc.constantFrom("classic" as const, "orthogonal" as const),
      size,
      size,
      size,
      size,
      fc.nat(),
      fc.boolean(),
      (layout, pcp, tp, kvHeads, perKv, pick, isSharded) => {
        const legal = layout === "classic" ? [1, 2, 3, 4].filter((dcp) => tp % dcp === 0) : [1, pcp, tp * pcp];
        const sizes = { layout, pcp, tp, dcp: legal[pick % legal.length] ?? 1 };
        const queryHeads = kvHeads * perKv;
        const options = { sizes, kv: isSharded ? "head-sharded" : "replicated", queryHeads, kvHeads } as const;
        const groups = parallelGroups(sizes);
        const layouts = Array.from({ length: groups.worldSize }, (_, rank) => {
          try {
            return headLayout(options, rank);
          } catch (error) {
            expect(error).toBeInstanceOf(ArgumentError);
            return undefined;
          }
        });
        if (layouts.includes(undefined)) return;
        for (const group of groups.tp) {
          const heads = group.flatMap((rank) => {
            const { start = 0, count = 0 } = layouts[rank]?.ownQueryHeads ?? {};
            return Array.from({ length: count }, (_, head) => start + head);
          });
          expect(heads).toEqual(Array.from({ length: queryHeads }, (_, head) => head));
        }
        for (const made of layouts) {
          if (made === undefined) continue;
          for (let head = 0; head < made.groupQueryHeads.count; head++) {
            const stored = made.kvHeads.start + Math.floor((head + made.headGroup.offset) / made.headGroup.size);
            expect(stored).toBe(Math.floor((made.groupQueryHeads.start + head) / perKv));
            expect(stored).toBeLessThan(made.kvHeads.end);
          }
        }
        // The ranks that hold a KV cache between them store the same heads of it.
        for (const group of groups.kv) {
          const stored = new Set(group.map((rank) => JSON.stringify(layouts[rank]?.kvHeads)));
          expect(stored.size).toBe(1);
        }
      },
    ),
  );
});
