// World-invariant attention: outputs and LSEs have the same bits on any number of ranks, in any layout, pages, steps
// and chunks, by any combine, and are as near to float64 as the plain ones.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { TestBackend } from "./test-backend.ts";
import { ALONE, bitsOf, drawnRun, invariantCases, openInvariantWorld, WORLDS } from "./world-invariance-cases.ts";

setDefaultTimeout(180_000);

describe("world-invariant attention has the bits of one rank", () => {
  const backends: readonly (readonly [TestBackend, number, readonly RegExp[]])[] = [
    ["reference", 3, [/3 ranks: classic/, /4 ranks: queries/]],
    ["webgpu", 1, [/^2 ranks: classic TP2 PCP1/]],
    ["webgpu shared", 2, [/3 ranks: classic/, /4 ranks: queries/]],
  ];
  test.each(backends)("%s", async (backend, count, chosen) => {
    const wanted: Buffer[] = [];
    {
      await using world = await openInvariantWorld(ALONE, backend);
      for (const [at, item] of invariantCases(world.heap, count, 5).entries()) {
        const bits = await bitsOf(world, item, drawnRun(ALONE, item, at));
        expect([item.name, await bitsOf(world, item, drawnRun(ALONE, item, 500 + at))]).toEqual([item.name, bits]);
        wanted.push(bits);
      }
    }
    for (const [place, layout] of WORLDS.entries()) {
      if (!chosen.some((pattern) => pattern.test(layout.name))) continue;
      await using world = await openInvariantWorld(layout, backend);
      for (const [at, item] of invariantCases(world.heap, count, 5).entries()) {
        const run = drawnRun(layout, item, 1000 * place + at);
        const bits = await bitsOf(world, item, run);
        if (bits.equals(wanted[at] ?? bits.subarray(1))) continue;
        throw new Error(`${layout.name}: other bits of ${item.name} by ${JSON.stringify(run)}`);
      }
    }
    expect(wanted.length).toBe(count);
  });
});
