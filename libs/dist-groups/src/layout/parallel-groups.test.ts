import { describe, expect, test } from "bun:test";
import { ArgumentError } from "@lockstep/tensor";
import * as fc from "fast-check";
import { type ParallelSizes, parallelGroups } from "./parallel-groups.ts";

describe("parallelGroups, known answers", () => {
  const known: readonly [string, ParallelSizes, number[][]][] = [
    [
      "classic TP4 DCP2",
      { layout: "classic", tp: 4, dcp: 2 },
      [
        [0, 1],
        [2, 3],
      ],
    ],
    [
      "classic TP8 DCP4",
      { layout: "classic", tp: 8, dcp: 4 },
      [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
      ],
    ],
    [
      "orthogonal TP2 PCP2 DCP2",
      { layout: "orthogonal", tp: 2, pcp: 2, dcp: 2 },
      [
        [0, 2],
        [1, 3],
      ],
    ],
    ["orthogonal TP2 PCP2 DCP4", { layout: "orthogonal", tp: 2, pcp: 2, dcp: 4 }, [[0, 2, 1, 3]]],
    [
      "orthogonal TP4 PCP2 DCP2",
      { layout: "orthogonal", tp: 4, pcp: 2, dcp: 2 },
      [
        [0, 4],
        [1, 5],
        [2, 6],
        [3, 7],
      ],
    ],
    ["orthogonal TP4 PCP2 DCP8", { layout: "orthogonal", tp: 4, pcp: 2, dcp: 8 }, [[0, 4, 1, 5, 2, 6, 3, 7]]],
    ["orthogonal TP2 PCP1 DCP1", { layout: "orthogonal", tp: 2, dcp: 1 }, [[0], [1]]],
    [
      "classic TP2 PCP2 DCP2",
      { layout: "classic", tp: 2, pcp: 2, dcp: 2 },
      [
        [0, 1],
        [2, 3],
      ],
    ],
    [
      "classic DP2 PP2 TP2 DCP2",
      { layout: "classic", dp: 2, pp: 2, tp: 2, dcp: 2 },
      [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
      ],
    ],
  ];
  test.each(known)("DCP groups of %s", (_, sizes, dcp) => {
    expect(parallelGroups(sizes).dcp).toEqual(dcp);
  });

  test("every group kind of DP2 PP2 PCP2 TP2", () => {
    const groups = parallelGroups({ layout: "classic", dp: 2, pp: 2, pcp: 2, tp: 2, dcp: 1 });
    expect(groups.worldSize).toBe(16);
    expect(groups.tp.slice(0, 3)).toEqual([
      [0, 1],
      [2, 3],
      [4, 5],
    ]);
    expect(groups.pcp.slice(0, 3)).toEqual([
      [0, 2],
      [1, 3],
      [4, 6],
    ]);
    expect(groups.pp.slice(0, 3)).toEqual([
      [0, 4],
      [1, 5],
      [2, 6],
    ]);
    expect(groups.dp.slice(0, 3)).toEqual([
      [0, 8],
      [1, 9],
      [2, 10],
    ]);
  });

  test("query groups", () => {
    expect(parallelGroups({ layout: "classic", tp: 4, dcp: 2 }).query).toEqual([
      [0, 1],
      [2, 3],
    ]);
    expect(parallelGroups({ layout: "orthogonal", tp: 2, pcp: 2, dcp: 2 }).query).toEqual([[0], [1], [2], [3]]);
    expect(parallelGroups({ layout: "orthogonal", tp: 2, pcp: 2, dcp: 4 }).query).toEqual([
      [0, 1],
      [2, 3],
    ]);
  });

  test("KV shards", () => {
    const classic = parallelGroups({ layout: "classic", tp: 4, pcp: 2, dcp: 2 });
    expect(classic.kvShards).toBe(4);
    expect(classic.kvShard).toEqual([0, 1, 0, 1, 2, 3, 2, 3]);
    expect(classic.kv).toEqual([
      [0, 1, 4, 5],
      [2, 3, 6, 7],
    ]);
    const orthogonal = parallelGroups({ layout: "orthogonal", tp: 2, pcp: 2, dcp: 4 });
    expect(orthogonal.kvShards).toBe(4);
    expect(orthogonal.kvShard).toEqual([0, 2, 1, 3]);
    expect(orthogonal.kv).toEqual([[0, 2, 1, 3]]);
  });
});

const size = fc.integer({ min: 1, max: 4 });

test("every kind of group holds every rank once, with the right size", () => {
  fc.assert(
    fc.property(
      fc.constantFrom("classic" as const, "orthogonal" as const),
      size,
      size,
      size,
      size,
      fc.nat(),
      (layout, dp, pp, pcp, tp, pick) => {
        const legal = layout === "classic" ? [1, 2, 3, 4].filter((dcp) => tp % dcp === 0) : [1, pcp, tp * pcp];
        const dcp = legal[pick % legal.length] ?? 1;
        const groups = parallelGroups({ layout, dp, pp, pcp, tp, dcp });
        const all = Array.from({ length: dp * pp * pcp * tp }, (_, rank) => rank);
        expect(groups.worldSize).toBe(all.length);
        for (const [kind, length] of [
          ["dp", dp],
          ["pp", pp],
          ["pcp", pcp],
          ["tp", tp],
          ["dcp", dcp],
        ] as const) {
          expect(groups[kind].every((group) => group.length === length)).toBe(true);
          expect(groups[kind].flat().toSorted((a, b) => a - b)).toEqual(all);
        }
        // A KV group lists the holders of the W shards in their order.
        expect(groups.kv.flat().toSorted((a, b) => a - b)).toEqual(all);
        for (const group of groups.kv) {
          const shards = Array.from({ length: groups.kvShards }, (_, index) => index);
          expect(group.map((rank) => groups.kvShard[rank])).toEqual(shards);
        }
        expect(groups.query.flat().toSorted((a, b) => a - b)).toEqual(all);
        // In every DCP group the ranks hold different shards of the same W.
        for (const group of groups.dcp) expect(new Set(group.map((rank) => groups.kvShard[rank])).size).toBe(dcp);
        if (layout === "classic") {
          for (const group of groups.dcp) expect(group).toEqual(group.map((_, index) => (group[0] ?? 0) + index));
        }
      },
    ),
  );
});

test.each([
  [{ layout: "classic", tp: 4, dcp: 3 }, "dcp"],
  [{ layout: "classic", tp: 2, dcp: 4 }, "dcp"],
  [{ layout: "orthogonal", tp: 4, pcp: 2, dcp: 4 }, "dcp"],
  [{ layout: "orthogonal", tp: 2, pcp: 3, dcp: 2 }, "dcp"],
  [{ layout: "classic", tp: 0, dcp: 1 }, "tp"],
  [{ layout: "classic", tp: 2, dcp: 1, dp: 1.5 }, "dp"],
  [{ layout: "classic", tp: 2, dcp: 1, pcp: -1 }, "pcp"],
] as const)("%j is refused, naming %s", (sizes, argument) => {
  let error: unknown;
  try {
    parallelGroups(sizes);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(ArgumentError);
  expect(error).toHaveProperty("argument", argument);
});

test("an unknown layout is refused", () => {
  const sizes: unknown = { layout: "diagonal", tp: 2, dcp: 1 };
  expect(() => parallelGroups(sizes as ParallelSizes)).toThrow(/"classic" or "orthogonal"/);
});
