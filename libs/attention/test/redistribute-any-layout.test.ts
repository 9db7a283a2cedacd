// A live context moves between any two layouts: random ranks, interleave, blocks, weights and PCP on either side.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { MethodsOf, World } from "@lockstep/dist-groups";
import fc from "fast-check";
import { RandomStream } from "../../../tests/random.ts";
import type * as program from "./redistribute-program.ts";
import { type Deal, LAYERS, type MoveReport, QUERY_HEADS, shapeOf, upTo } from "./redistribute-cases.ts";
import { open, withGroups } from "./redistribute-worlds.ts";

setDefaultTimeout(180_000);

/** A layout of a property test: which ranks, and how contexts are dealt to them. */
interface DrawnLayout {
  readonly ranks: readonly number[];
  readonly deal: Deal;
}

const RANKS = 5;
/** Pairs of ranks that split new tokens, and shares of any size. */
const TWO_BY_TWO: DrawnLayout = {
  ranks: [3, 1, 0, 2],
  deal: { interleave: 2, blockSize: 4, numBlocks: 220, pcp: 2, weights: [1, 2, 0, 1] },
};

/** Layouts of 1 to 5 ranks, of any interleave, block size, weights and PCP. */
const layouts: fc.Arbitrary<DrawnLayout> = fc
  .record({
    ranks: fc.shuffledSubarray(upTo(RANKS), { minLength: 1 }),
    weights: fc.option(fc.array(fc.nat({ max: 3 }), { minLength: RANKS, maxLength: RANKS }), { nil: undefined }),
    interleave: fc.integer({ min: 1, max: 3 }),
    turns: fc.integer({ min: 1, max: 3 }),
    pcp: fc.option(fc.nat(), { nil: undefined }),
  })
  .map(({ ranks, weights, interleave, turns, pcp }) => {
    const own = weights?.slice(0, ranks.length) ?? [0];
    const divisors = upTo(ranks.length, 1).filter((size) => ranks.length % size === 0);
    return {
      ranks,
      deal: {
        interleave,
        blockSize: interleave * turns,
        numBlocks: 220,
        ...(own.some((weight) => weight > 0) ? { weights: own } : {}),
        ...(pcp === undefined ? {} : { pcp: divisors[pcp % divisors.length] ?? 1 }),
      },
    };
  });

/** Moves a context through layouts: what each rank saw. */
async function moveThrough(
  world: World<MethodsOf<typeof program>>,
  drawn: readonly DrawnLayout[],
  { seed, isInvariant = false }: { readonly seed: number; readonly isInvariant?: boolean },
): Promise<MoveReport[]> {
  const deals = drawn.map(({ deal }) => deal);
  return await withGroups(
    world,
    drawn.map(({ ranks }) => ranks),
    new RandomStream(seed),
    (unions) => {
      const workspaceBytes = [2000, 1 << 16][seed % 2] ?? 0;
      return world.call("move", [{ shape: shapeOf(seed), deals, unions, workspaceBytes, seed, isInvariant }]);
    },
    deals.map(({ pcp = 1 }) => pcp),
  );
}

/** The part of all heads' bits that is of some heads; see `goOn`. */
function bitsOfHeads(bits: readonly number[], { start, end }: MoveReport["heads"], dim: number): number[] {
  const row = QUERY_HEADS * dim;
  return upTo(bits.length / row).flatMap((at) => bits.slice(at * row + start * dim, at * row + end * dim));
}

describe("any two layouts: ranks, interleave, blocks, weights, PCP", () => {
  test("a context that moves goes on with the bits of one that was always dealt like that", async () => {
    await using world = await open(RANKS, "wasm");
    await fc.assert(
      fc.asyncProperty(fc.array(layouts, { minLength: 2, maxLength: 4 }), fc.nat(999), async (drawn, seed) => {
        const reports = await moveThrough(world, drawn, { seed });
        for (const rank of drawn.at(-1)?.ranks ?? []) {
          const { moved = [], expected } = reports[rank] ?? {};
          expect(moved.length).toBe(6);
          expect(moved).toEqual(expected ?? []);
        }
        const counts = reports.flatMap(({ metrics }) => metrics);
        const sum = (name: "rowsSent" | "rowsReceived"): number => counts.reduce((all, one) => all + one[name], 0);
        expect(sum("rowsSent")).toBe(sum("rowsReceived"));
        // A move from a layout to the same one sends nothing.
        const [first, next] = drawn;
        if (drawn.length === 2 && JSON.stringify(first) === JSON.stringify(next)) expect(sum("rowsSent")).toBe(0);
      }),
      { numRuns: 24, endOnFailure: true, examples: [[[TWO_BY_TWO, TWO_BY_TWO], 1]] },
    );
  });

  test("in the world-invariant mode it goes on with the bits of one rank", async () => {
    await using world = await open(RANKS, "wasm");
    const alone: DrawnLayout = { ranks: [0], deal: { interleave: 1, blockSize: 4, numBlocks: 220 } };
    await fc.assert(
      fc.asyncProperty(fc.array(layouts, { minLength: 2, maxLength: 3 }), fc.nat(999), async (drawn, seed) => {
        const [whole] = await moveThrough(world, [alone], { seed, isInvariant: true });
        const reports = await moveThrough(world, drawn, { seed, isInvariant: true });
        const [, dim] = shapeOf(seed).dims;
        for (const rank of drawn.at(-1)?.ranks ?? []) {
          const report = reports[rank] ?? expect.unreachable();
          const expected = (whole?.moved ?? []).map(({ length, bits }) => {
            return { length, bits: bitsOfHeads(bits, report.heads, dim) };
          });
          expect(expected[0]?.bits.length).toBe(2 * LAYERS * (report.heads.end - report.heads.start) * dim);
          expect(report.moved).toEqual(expected);
        }
      }),
      { numRuns: 16, endOnFailure: true, examples: [[[TWO_BY_TWO, alone, TWO_BY_TWO], 2]] },
    );
  });
});
