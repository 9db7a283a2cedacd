// The exchange of partial outputs with the parameters that vLLM and TensorRT-LLM test with: whatever a rank sends
// arrives bit for bit, and rows of empty shards are ignored whatever they hold.
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Combine } from "@lockstep/attention";
import { headRange, type MethodsOf, openWorld, type World } from "@lockstep/dist-groups";
import { Tensor } from "@lockstep/tensor";
import { RandomStream } from "../../../tests/random.ts";
import type * as program from "./reduce-output-program.ts";

setDefaultTimeout(120_000);

const COMBINES: readonly Combine[] = ["a2a", "one-shot", "ag-rs"];

/** Which ranks hold keys of a row; `alone` gives each row to one rank. */
const MASKS: Readonly<Record<string, (rank: number, size: number, row: number) => boolean>> = {
  none: () => true,
  interior: (rank, size) => rank === 0 || rank === size - 1,
  leading: (rank) => rank > 0,
  trailing: (rank, size) => rank < size - 1,
  "all empty": () => false,
  alone: (rank, size, row) => row % size === rank,
};

async function exchange(
  world: World<MethodsOf<typeof program>>,
  batch: number,
  heads: number,
  dim: number,
  mask: string,
): Promise<void> {
  const size = world.size;
  const random = new RandomStream(batch * dim + heads);
  const holds = MASKS[mask] ?? (() => true);
  const rows = batch * heads;
  const lses = Array.from({ length: size * rows }, (_, at) => {
    const isHeld = holds(Math.floor(at / rows), size, at % rows);
    return isHeld ? random.normal() : [Number.NEGATIVE_INFINITY, Number.NaN, Number.POSITIVE_INFINITY][at % 3];
  }) as number[];
  const partialLse = Tensor.from(world.heap, "f32", [size, batch, heads], lses);
  const values = random.normals(size * rows * dim);
  for (const [at, lse] of lses.entries()) if (!Number.isFinite(lse)) values.fill(Number.NaN, at * dim, (at + 1) * dim);
  const partialOut = Tensor.from(world.heap, "f32", [size, batch, heads, dim], values);
  for (const combine of COMBINES) {
    const descriptors = { partialOut: partialOut.descriptor, partialLse: partialLse.descriptor };
    const groups = { dcpGroup: "world", queryGroup: "world" };
    const results = await world.call("reduce", [{ ...groups, ...descriptors, combine, base: "e" }]);
    for (const [rank, { out, lse }] of results.entries()) {
      const own = headRange(heads, rank, size);
      for (let b = 0; b < batch; b++) {
        for (let head = own.start; head < own.end; head++) {
          const row = b * heads + head;
          const at = b * own.count + head - own.start;
          const got = out.slice(at * dim, (at + 1) * dim);
          checkRow({ size, rows, row, dim, lses, values }, got, lse[at] ?? Number.NaN, `${combine}, row ${row}`);
        }
      }
    }
  }
  partialOut.free();
  partialLse.free();
}

interface Sent {
  readonly size: number;
  readonly rows: number;
  readonly row: number;
  readonly dim: number;
  readonly lses: readonly number[];
  readonly values: Float64Array;
}

function checkRow(
  { size, rows, row, dim, lses, values }: Sent,
  out: readonly number[],
  lse: number,
  what: string,
): void {
  const held = Array.from({ length: size }, (_, rank) => rank).filter((rank) =>
    Number.isFinite(lses[rank * rows + row]),
  );
  const valuesOf = (rank: number): Float64Array =>
    values.subarray((rank * rows + row) * dim, (rank * rows + row + 1) * dim);
  const lsesHeld = held.map((rank) => Math.fround(lses[rank * rows + row] ?? 0));
  const [only] = held;
  if (only === undefined) {
    expect(lse).toBe(Number.NEGATIVE_INFINITY);
    expect(out.every((value) => value === 0)).toBe(true);
  } else if (held.length === 1) {
    // Weight 1: the sender's own bits.
    expect(lse).toBe(lsesHeld[0] ?? Number.NaN);
    expect(out.every((value, index) => value === valuesOf(only)[index])).toBe(true);
  } else {
    const max = Math.max(...lsesHeld);
    const total = lsesHeld.reduce((sum, each) => sum + Math.exp(each - max), 0);
    expect(Math.abs(lse - max - Math.log(total))).toBeLessThan(1e-5);
    for (const [index, value] of out.entries()) {
      const want = held.reduce((sum, rank, at) => {
        return sum + (Math.exp((lsesHeld[at] ?? 0) - max) / total) * (valuesOf(rank)[index] ?? Number.NaN);
      }, 0);
      if (!(Math.abs(value - want) <= 1e-5 * (1 + Math.abs(want))))
        throw new Error(`${what}: ${value} instead of ${want}`);
    }
  }
}

describe.each([2, 3, 4, 5, 6, 7, 8])("exchange over %d ranks", (size) => {
  test("mask patterns, D 512, tokens 1, 17 and 128", async () => {
    await using world = await openWorld<typeof program>({
      size,
      program: new URL("./reduce-output-program.ts", import.meta.url),
      options: { backend: "wasm" },
      heapBytesPerRank: 32 << 20,
      heapBytesHost: 64 << 20,
    });
    for (const mask of Object.keys(MASKS)) await exchange(world, 3, 6, 512, mask);
    for (const mask of Object.keys(MASKS)) await exchange(world, 7, 2 * size, 32, mask);
    if (size === 2 || size === 4) for (const tokens of [1, 17, 128]) await exchange(world, tokens, 6, 512, "interior");
  });
});
