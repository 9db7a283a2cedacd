// Fills KV caches that no single memory holds, attends over all of it and compares with float64.
import { expect } from "bun:test";
import { openWorld } from "@lockstep/dist-groups";
import type * as program from "./capacity-program.ts";
import { type CapacityShape, referenceAttention } from "./capacity-rows.ts";

/** Of an output element, whose terms are of the order of 1, and of an LSE. */
const TOLERANCE = 1e-4;

/** Bytes of keys and values that the context takes on all ranks. */
export function kvBytes({ layers, kvHeads, headDim, tokens }: CapacityShape): number {
  return layers * tokens * 2 * kvHeads * headDim * 2;
}

/**
 * Has `size` ranks hold a context and attend over it, twice, which must give the same bits; every layer's outputs of
 * `heads` and their LSEs are compared with float64.
 */
export async function checkCapacity(size: number, shape: CapacityShape, heads: readonly number[]): Promise<void> {
  await using world = await openWorld<typeof program>({
    size,
    program: new URL("./capacity-program.ts", import.meta.url),
    options: shape,
    heapBytesPerRank: 4 << 20,
    startDeadlineMs: 300_000,
    deadlineMs: 600_000,
  });
  await world.call("fill", [], { deadlineMs: 1_800_000 });
  const held = await world.call("bytes", []);
  // All of it lies in the ranks' own memories, next to nothing in the one that they share.
  expect(held.reduce((sum, { own }) => sum + own, 0)).toBeGreaterThanOrEqual(kvBytes(shape));
  for (const { shared } of held) expect(shared).toBeLessThan(4 << 20);
  for (let layer = 0; layer < shape.layers; layer++) {
    const results = await world.call("attend", [layer]);
    const again = await world.call("attend", [layer]);
    const [out, lse] = [results.flatMap((rank) => rank.out), results.flatMap((rank) => rank.lse)];
    expect(again.flatMap((rank) => rank.out)).toEqual(out);
    expect(again.flatMap((rank) => rank.lse)).toEqual(lse);
    for (const head of heads) {
      const expected = referenceAttention(shape, layer, head);
      expect(Math.abs((lse[head] ?? Number.NaN) - expected.lse)).toBeLessThan(TOLERANCE);
      const own = out.slice(head * shape.headDim, (head + 1) * shape.headDim);
      const furthest = Math.max(...own.map((value, column) => Math.abs(value - (expected.out[column] ?? 0))));
      expect(furthest).toBeLessThan(TOLERANCE);
    }
  }
}
