// Steps of ranks with a GPU each that are cut in slices: the bits of whole ones, one submission a slice on its way down,
// nothing made once they are warm, and nothing left under way when a rank fails in one of them.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { headRange, openWorld } from "@lockstep/dist-groups";
import { DTYPE_BYTES } from "@lockstep/tensor";
import type * as combineProgram from "./device-combine-program.ts";
import type { CombineCase, CombineResult, Place } from "./device-combine-program.ts";
import type * as faultProgram from "./device-slices-program.ts";

setDefaultTimeout(600_000);

const LIMITS = { heapBytesPerRank: 32 << 20, stagedLimit: 0, deadlineMs: 500_000 } as const;

const open = (size: number) =>
  openWorld<typeof combineProgram>({
    size,
    program: new URL("./device-combine-program.ts", import.meta.url),
    options: { backend: "webgpu invariant" },
    ...LIMITS,
  });

/** Odd numbers of rows, heads and columns, so that what is packed in 16 bits begins and ends within words. */
const ODD = { batch: 7, heads: 7, kvHeads: 1, dim: 5, combine: "a2a", withLse: true } as const;
const CASES: readonly CombineCase[] = [
  { ...ODD, partialDtype: "f32", outDtype: "f32" },
  { ...ODD, partialDtype: "f16", outDtype: "f16", withLse: false },
  { ...ODD, partialDtype: "bf16", outDtype: "bf16", batch: 6 },
  { ...ODD, partialDtype: "f16", outDtype: "f32", batch: 5, heads: 3, overlap: "on" },
];
const PLACES: readonly (readonly [Place, Place])[] = [
  ["heap", "heap"],
  ["GPU", "GPU"],
];
/** Four slices of any step that has as many rows. */
const SMALL = 16;

/** Bytes of alignment around a part that goes to or from a GPU. */
const SLACK = 512;

const bits = (results: readonly CombineResult[]): Uint8Array[] => results.flatMap(({ out, lse }) => [out, lse]);

describe("slices have the bits of whole steps, in submissions of their own", () => {
  test.each([2, 3, 4, 8])("%d ranks", async (size) => {
    await using world = await open(size);
    for (const [at, of] of CASES.entries()) {
      for (const [queries, results] of PLACES) {
        // All of them by two ranks, and by more some of each, which take as long as there are ranks.
        if (size > 2 && at !== ((results === "heap" ? 0 : 1) + size) % CASES.length) continue;
        const whole = await world.call("run", [of, queries, results]);
        const cut = await world.call("run", [{ ...of, sliceBytes: SMALL }, queries, results]);
        expect([of, queries, results, bits(cut)]).toEqual([of, queries, results, bits(whole)]);
        expect(cut.map(({ followed }) => followed)).toEqual(whole.map(({ followed }) => followed));
        expect(whole.flatMap(({ values }) => values).every(Number.isFinite)).toBe(true);
        for (const [rank, { calls, bytes, overlapped }] of cut.entries()) {
          const uncut = whole[rank];
          expect(calls).toMatchObject({ createBuffer: 0, createBindGroup: 0, createComputePipeline: 0 });
          const parts = overlapped > 0 ? 2 : 1;
          // The halves of five rows are of two and three.
          const slices = parts === 2 ? 5 : 4;
          // Results in the heap come down by the slice too; merges that nobody waits for go with the next submission.
          const more = (slices - parts) * (results === "heap" ? 2 : 1);
          expect([calls.submit, calls.mapAsync]).toEqual([
            (uncut?.calls.submit ?? 0) + more,
            (uncut?.calls.mapAsync ?? 0) + more,
          ]);
          expect(bytes.down).toBeGreaterThanOrEqual(headBytes(of, size, rank));
          expect(bytes.down).toBeLessThanOrEqual((uncut?.bytes.down ?? 0) + 2 * (more + 1) * size * SLACK);
        }
      }
    }
  });
});

describe("a rank that fails in a slice", () => {
  test.each([
    [2, "off", { rank: 1, submission: 0, how: "throws" }],
    [2, "off", { rank: 0, submission: 2, how: "throws" }],
    [3, "off", { rank: 2, submission: 0, how: "rejects" }],
    [3, "off", { rank: 1, submission: 2, how: "rejects" }],
    [2, "off", { rank: 1, submission: 5, how: "throws" }],
    [2, "on", { rank: 0, submission: 1, how: "rejects" }],
    [2, "on", { rank: 1, submission: 6, how: "throws" }],
    [2, "on", { rank: 0, submission: 7, how: "rejects" }],
  ] as const)("%d ranks, overlap %s, %o: stops, frees everybody, and they go on", async (size, overlap, fault) => {
    await using world = await openWorld<typeof faultProgram>({
      size,
      program: new URL("./device-slices-program.ts", import.meta.url),
      ...LIMITS,
    });
    const wanted = await world.call("open", [overlap]);
    expect(await world.call("fault", [fault]).then(() => "nothing", String)).toContain("stopped on purpose");
    await world.renewGroups();
    const found = await world.call("found", []);
    const said = (rank: number): string => (rank === fault.rank ? "Error: stopped on purpose" : "GroupAborted");
    expect(found).toEqual(found.map((_, rank) => ({ said: said(rank), underWay: 0 })));
    expect(await world.call("goOn", [])).toEqual(wanted);
  });
});

/** Bytes of what peers own of a rank's partial results. */
function headBytes({ batch, heads, dim, partialDtype }: CombineCase, size: number, rank: number): number {
  const own = headRange(heads, rank, size).count;
  return (heads - own) * batch * (dim * DTYPE_BYTES[partialDtype] + 4);
}
