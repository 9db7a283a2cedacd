// Random worlds, and texts that get the same logits on each.
import { expect } from "bun:test";
import fc from "fast-check";
import type { Model } from "../src/model/model.ts";
import { inSteps, schedule } from "./text-schedule.ts";
import { type Layout, logitsOf, type Settings } from "./world-invariant-logits.ts";

const SHORT = { length: 30, prefix: 0 };

/** Ways to spread eight query heads, two KV heads and the tokens of a text. */
const layouts: fc.Arbitrary<Layout> = fc
  .record({
    sizes: fc.constantFrom(...[1, 2, 3, 4, 5, 8].flatMap((world) => divisorsOf(world).map((dcp) => ({ world, dcp })))),
    kvHeads: fc.constantFrom("auto" as const, "replicated" as const),
    blocks: fc.constantFrom({ interleave: 1, blockSize: 8 }, { interleave: 4, blockSize: 8 }, { blockSize: 2 }, {}),
    combine: fc.constantFrom("a2a" as const, "ag-rs" as const, "auto" as const),
    weights: fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 8, maxLength: 8 }),
    hasOwnMemory: fc.boolean(),
  })
  .map(({ sizes, blocks, weights, ...rest }) => {
    const own = weights.slice(0, sizes.dcp);
    const kvWeights = own.some((weight) => weight > 0) && own.length > 1 ? { kvWeights: own } : {};
    return { ...sizes, ...rest, ...blocks, ...kvWeights };
  });

/**
 * Each text of a random schedule alone on one rank, token by token; then the schedule, which mixes, cuts, forks and
 * drafts, on random worlds.
 * @param runs schedules, each on so many `worlds`
 */
export async function checkWorlds(
  model: Model,
  settings: Omit<Settings, "isPlain">,
  { runs, worlds: count }: { readonly runs: number; readonly worlds: number },
): Promise<void> {
  const options = { backend: "wasm" as const, ...settings, isPlain: false };
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.array(layouts, { minLength: count, maxLength: count }), async (seed, worlds) => {
      const { texts, steps } = schedule(seed, SHORT, false);
      const tokenByToken = texts.flatMap((ids, text) => inSteps(text, ids, 1, false));
      const alone = await logitsOf(model, { world: 1, dcp: 1 }, options, tokenByToken);
      const known = new Map(alone.map((row) => [`${row[0]}/${row[1]}`, row]));
      for (const layout of worlds) {
        for (const row of await logitsOf(model, layout, options, steps)) {
          expect({ layout, row }).toEqual({ layout, row: known.get(`${row[0]}/${row[1]}`) ?? expect.unreachable() });
        }
      }
    }),
    { numRuns: runs, endOnFailure: true },
  );
}

function divisorsOf(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1).filter((divisor) => count % divisor === 0);
}
