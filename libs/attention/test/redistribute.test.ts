// A live context moves between layouts: what is stored has the bits of a context that was always dealt like that.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { type MethodsOf, RankCrashed, type World } from "@lockstep/dist-groups";
import { Tensor } from "@lockstep/tensor";
import { outcomeOf } from "../../../tests/outcome-of.ts";
import { RandomStream } from "../../../tests/random.ts";
import type * as program from "./redistribute-program.ts";
import { type Deal, type MoveCase, PLAIN, shapeOf, upTo } from "./redistribute-cases.ts";
import { open, shuffled, withGroups } from "./redistribute-worlds.ts";

setDefaultTimeout(180_000);

/** Rows of every sequence of a context, shared ones once for each; see `fill`. */
const TOKENS = 41 + 23 + 43 + 18;

/** A deal to so many ranks, with room for all. */
function randomDeal(ranks: number, random: RandomStream): Deal {
  const interleave = 1 + random.below(3);
  const blockSize = interleave * (1 + random.below(3));
  const plain = { interleave, blockSize, numBlocks: 220 };
  if (random.below(2) === 0) return plain;
  const weights: number[] = Array.from({ length: ranks }, () => random.below(4));
  if (!weights.some((weight) => weight > 0)) weights[random.below(ranks)] = 1;
  return { ...plain, weights };
}

/** A context that moves through layouts: bits, and rows on their way. */
async function checkMoves(
  world: World<MethodsOf<typeof program>>,
  layouts: readonly (readonly number[])[],
  seed: number,
): Promise<void> {
  const random = new RandomStream(seed);
  const shape = shapeOf(seed);
  const deals = layouts.map(({ length }) => randomDeal(length, random));
  const workspaceBytes = [2000, 6000, 1 << 16][seed % 3] ?? 0;
  const reports = await withGroups(world, layouts, random, (unions) =>
    world.call("move", [{ shape, deals, unions, workspaceBytes, seed }]),
  );
  const last = layouts.at(-1) ?? [];
  for (const [rank, { moved, expected, known, metrics }] of reports.entries()) {
    if (last.includes(rank)) {
      expect(expected.map(({ length }) => length)).toEqual([41, 23, 43, 18, 0, 32]);
      expect(moved).toEqual(expected);
      for (const found of known) expect(found).toBeGreaterThanOrEqual(0);
    }
    for (const { workspaceBytes: taken } of metrics) expect(taken).toBeLessThanOrEqual(workspaceBytes);
  }
  for (const [at, ranks] of layouts.slice(1).entries()) {
    const members = [...new Set([...(layouts[at] ?? []), ...ranks])].sort((a, b) => a - b);
    // A rank's moves in order are those whose union it is in.
    const seen = members.map((rank) => {
      const before = layouts.slice(0, at).filter((_, move) => {
        return [...(layouts[move] ?? []), ...(layouts[move + 1] ?? [])].includes(rank);
      }).length;
      const report = reports[rank];
      return { metrics: report?.metrics[before], held: report?.held[before] };
    });
    const sum = (pick: (of: (typeof seen)[number]) => number | undefined): number =>
      seen.reduce((total, one) => total + (pick(one) ?? Number.NaN), 0);
    expect(sum(({ metrics }) => metrics?.rowsSent)).toBe(sum(({ metrics }) => metrics?.rowsReceived));
    expect(sum(({ metrics }) => metrics?.bytesSent)).toBe(sum(({ metrics }) => metrics?.bytesReceived));
    for (const one of [0, 1] as const) expect(sum(({ held }) => held?.[one])).toBe(TOKENS);
    // Each row once: of sequences that share blocks no more than all of them hold, and what is known besides.
    const rows = sum(({ metrics }) => metrics?.rowsSent) + sum(({ metrics }) => metrics?.rowsKept);
    expect(rows).toBeGreaterThanOrEqual(41 + 23 + 6);
    expect(rows).toBeLessThanOrEqual(TOKENS + 32);
  }
}

describe("a context that moves goes on with the bits of one that was always dealt like that", () => {
  test.each([1, 2, 3, 4, 8])("wasm, %d ranks, random layouts", async (size) => {
    await using world = await open(size, "wasm");
    const random = new RandomStream(size);
    for (let at = 0; at < 6; at++) {
      const draw = (): number[] => shuffled(upTo(size), random).slice(0, 1 + random.below(size));
      await checkMoves(world, [draw(), draw()], 8 * size + at);
    }
  });

  test("wasm, growing from 2 to 4 ranks and shrinking back", async () => {
    await using world = await open(4, "wasm");
    for (const seed of [1, 2, 4]) await checkMoves(world, [upTo(2), upTo(4), upTo(2)], seed);
    await checkMoves(world, [upTo(2), upTo(2, 2), upTo(3)], 5);
  });

  test.each(["reference", "wasm own"] as const)("%s, 3 ranks", async (backend) => {
    await using world = await open(3, backend);
    for (const seed of [1, 2, 3]) await checkMoves(world, [upTo(2), upTo(3), [2]], seed);
  });

  test("webgpu on software Vulkan, 2 ranks", async () => {
    await using world = await open(2, "webgpu invariant");
    await checkMoves(world, [upTo(2), upTo(1), upTo(2)], 2);
  });

  test("webgpu on software Vulkan, 2 ranks that share a device", async () => {
    await using world = await open(2, "webgpu shared invariant");
    for (const seed of [0, 4]) await checkMoves(world, [upTo(2), [1, 0], upTo(2)], seed);
  });
});

describe("rows that stay are not sent", () => {
  test("where only the block size changes nothing is; from 2 ranks to 4 each rank keeps a half", async () => {
    await using world = await open(4, "wasm");
    const random = new RandomStream(3);
    const run = (layouts: readonly (readonly number[])[], deals: readonly Deal[]) =>
      withGroups(world, layouts, random, (unions) =>
        world.call("move", [{ shape: PLAIN, deals, unions, workspaceBytes: 1 << 16, seed: 0 }]),
      );
    const deal = { interleave: 1, blockSize: 2, numBlocks: 220 };
    for (const { metrics } of await run([upTo(4), upTo(4)], [deal, { ...deal, blockSize: 3 }])) {
      expect(metrics[0]?.rowsSent).toBe(0);
      expect(metrics[0]?.bytesReceived).toBe(0);
      expect(metrics[0]?.rowsKept).toBeGreaterThan(0);
    }
    const grown = await run([upTo(2), upTo(4)], [deal, deal]);
    for (const [rank, { metrics }] of grown.entries()) {
      const { rowsSent = -1, rowsReceived = -1, rowsKept = -1, bytesSent = -1 } = metrics[0] ?? {};
      // Position p goes from rank p mod 2 to rank p mod 4: half of a rank's rows stay.
      if (rank >= 2) expect([rowsSent, rowsKept]).toEqual([0, 0]);
      else expect([rowsReceived, Math.abs(rowsKept - rowsSent) <= 6]).toEqual([0, true]);
      expect(bytesSent).toBe(rowsSent * 2 * 2 * (8 + 4) * 4);
    }
  });
});

describe("a move that fails leaves the old context as it was, and a typed error on every rank", () => {
  const base: MoveCase = {
    shape: PLAIN,
    deals: [
      { interleave: 1, blockSize: 2, numBlocks: 220 },
      { interleave: 2, blockSize: 4, numBlocks: 220 },
    ],
    unions: [],
    workspaceBytes: 4000,
    seed: 3,
  };
  const peers = "RedistributeFailed";
  type Trouble = Parameters<MethodsOf<typeof program>["fail"]>[1];
  const TROUBLES: readonly [trouble: Trouble, own: string, others: string, changes?: Partial<Deal>][] = [
    ["in a step", "StepOrderError", peers],
    ["signal", peers, peers],
    ["exhausted", "HeapExhausted", peers],
    ["too small", "ArgumentError", "ArgumentError"],
    ["other heads", peers, peers],
    ["no blocks", "OutOfBlocks", "OutOfBlocks", { numBlocks: 3 }],
  ];
  test.each(TROUBLES)("%s", async (trouble, own, others, changes = {}) => {
    await using world = await open(3, "wasm");
    const [first, next] = base.deals;
    if (first === undefined || next === undefined) throw new Error("two deals");
    // Rank 1 is in both layouts, rank 0 leaves, rank 2 joins.
    for (const culprit of [1, 0]) {
      const layouts = [
        [0, 1],
        [1, 2],
      ];
      const reports = await withGroups(world, layouts, new RandomStream(culprit), () =>
        world.call("fail", [{ ...base, deals: [first, { ...next, ...changes }] }, trouble, culprit]),
      );
      for (const [rank, { error, goesOn, leaks }] of reports.entries()) {
        expect([rank, error, goesOn, leaks]).toEqual([rank, rank === culprit ? own : others, true, 0]);
      }
    }
  });

  test("a rank that comes too late", async () => {
    await using world = await open(3, "wasm");
    const reports = await withGroups(
      world,
      [
        [0, 1],
        [1, 2],
      ],
      new RandomStream(1),
      () => world.call("fail", [base, "late", 2]),
    );
    for (const { error, goesOn, leaks } of reports) {
      expect(["CollectiveTimeout", "GroupAborted"]).toContain(error);
      expect([goesOn, leaks]).toEqual([true, 0]);
    }
  });

  test("a rank that hangs in the middle of a round", async () => {
    await using world = await open(4, "wasm");
    // Groups of a rank that does not come back are not closed before the world.
    await world.createGroup("layout 0", [0, 1, 3]);
    await world.createGroup("layout 1", [1, 2, 3]);
    await world.createGroup("union 0", [2, 0, 3, 1]);
    const calls = [0, 1, 2, 3].map((rank) => world.callRank(rank, "fail", [base, "hangs", 3]));
    calls[3]?.catch(() => {});
    for (const { error, leaks } of await Promise.all(calls.slice(0, 3))) {
      expect(["CollectiveTimeout", "GroupAborted"]).toContain(error);
      expect(leaks).toBe(0);
    }
    await world.terminateRank(3);
  });

  const KILLED: readonly [who: string, old: readonly number[], next: readonly number[]][] = [
    ["joins", [0, 1], [1, 2, 3]],
    ["leaves", [0, 1, 3], [1, 2]],
    ["is in both", [0, 1, 3], [1, 2, 3]],
  ];
  test.each(KILLED)("a rank that %s and is killed in the middle of a round", async (_who, old, next) => {
    // Survivors are told: a deadline would come after that of the test.
    await using world = await open(4, "wasm", 600_000);
    const reached = Tensor.zeros(world.heap, "i32", [1]);
    // Groups of a dead rank are not closed before the world.
    await world.createGroup("layout 0", old);
    await world.createGroup("layout 1", next);
    await world.createGroup("union 0", [2, 0, 3, 1]);
    const calls = [0, 1, 2, 3].map((rank) => world.callRank(rank, "fail", [base, "is killed", 3, reached.descriptor]));
    const killed = outcomeOf(calls[3]);
    while (Atomics.load(reached.i32, 0) === 0) await Bun.sleep(1);
    await world.terminateRank(3);
    expect(await killed).toThrow(RankCrashed);
    for (const [rank, { error, goesOn, leaks }] of (await Promise.all(calls.slice(0, 3))).entries()) {
      // Where the dead rank had no part of it, the old context has the bits that it would have had.
      expect([rank, goesOn, leaks]).toEqual([rank, true, 0]);
      expect(["GroupAborted", "RankCrashed"]).toContain(error);
    }
  });

  const UNSETTLED: readonly [what: string, old: number[], next: number[], left: number[], keep: "old" | "new"][] = [
    ["nobody has left, so all keep the old context", [0, 1], [1, 2, 3], [], "old"],
    ["somebody has left, so all keep the new context", [0, 1, 3], [0, 1, 2], [0], "new"],
  ];
  test.each(UNSETTLED)("a rank that is killed in the last barrier: %s", async (_what, old, next, left, keep) => {
    await using world = await open(4, "wasm", 600_000);
    const reached = Tensor.zeros(world.heap, "i32", [1]);
    await world.createGroup("layout 0", old);
    await world.createGroup("layout 1", next);
    await world.createGroup("union 0", [2, 0, 3, 1]);
    const args = [base, left, keep, reached.descriptor] as const;
    const calls = [0, 1, 2, 3].map((rank) => world.callRank(rank, "unsettled", [...args]));
    const killed = outcomeOf(calls[3]);
    while (Atomics.load(reached.i32, 0) === 0) await Bun.sleep(1);
    await world.terminateRank(3);
    expect(await killed).toThrow(RankCrashed);
    for (const [rank, report] of (await Promise.all(calls.slice(0, 3))).entries()) {
      const hasLeft = left.includes(rank);
      expect([rank, report]).toEqual([
        rank,
        {
          error: hasLeft ? "none" : "RedistributeUnsettled",
          // Until it is settled the old context takes no steps.
          held: hasLeft || !old.includes(rank) ? "none" : "StepOrderError",
          goesOn: true,
          leaks: 0,
        },
      ]);
    }
  });
});
