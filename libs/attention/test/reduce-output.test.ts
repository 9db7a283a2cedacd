import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { DEFAULT_COMBINE } from "@lockstep/attention";
import { headRange, openWorld, parallelGroups } from "@lockstep/dist-groups";
import type { LseBase } from "@lockstep/kernels";
import { type DType, Tensor } from "@lockstep/tensor";
import { RandomStream } from "../../../tests/random.ts";
import type * as program from "./reduce-output-program.ts";

setDefaultTimeout(120_000);

/** A world's groups: over which ranks the keys are sharded, and over which the query heads were gathered. */
interface Situation {
  readonly name: string;
  readonly size: number;
  readonly heads: number;
  readonly dcp: readonly (readonly number[])[];
  readonly query: readonly (readonly number[])[];
}

const classic = parallelGroups({ layout: "classic", tp: 4, dcp: 2 });
const orthogonal = parallelGroups({ layout: "orthogonal", tp: 2, pcp: 2, dcp: 4 });

const SITUATIONS: readonly Situation[] = [
  { name: "one rank", size: 1, heads: 3, dcp: [[0]], query: [[0]] },
  { name: "2 ranks, one group", size: 2, heads: 5, dcp: [[0, 1]], query: [[0, 1]] },
  { name: "3 ranks serve 8 heads", size: 3, heads: 8, dcp: [[0, 1, 2]], query: [[0, 1, 2]] },
  { name: "4 ranks", size: 4, heads: 4, dcp: [[0, 1, 2, 3]], query: [[0, 1, 2, 3]] },
  {
    name: "8 ranks, fewer heads than ranks",
    size: 8,
    heads: 5,
    dcp: [[0, 1, 2, 3, 4, 5, 6, 7]],
    query: [[0, 1, 2, 3, 4, 5, 6, 7]],
  },
  { name: "classic TP4 DCP2", size: 4, heads: 6, dcp: classic.dcp, query: classic.dcp },
  { name: "TP-wide gather with DCP2 inside TP4", size: 4, heads: 8, dcp: classic.dcp, query: classic.tp },
  { name: "orthogonal TP2 PCP2 DCP4", size: 4, heads: 8, dcp: orthogonal.dcp, query: orthogonal.tp },
];

const LOG2_E = Math.log2(Math.E);

describe.each(SITUATIONS.map((situation) => [situation.name, situation] as const))("%s", (_, situation) => {
  const { size, heads, dcp, query } = situation;
  const [batch, dim] = [3, 20];
  const groupOf = (groups: readonly (readonly number[])[], rank: number): readonly number[] =>
    groups.find((ranks) => ranks.includes(rank)) ?? [];

  test.each(["wasm", "reference"] as const)(
    "%s reduces as float64 does, in both bases, and by every combine to the same bits",
    async (backend) => {
      await using world = await openWorld<typeof program>({
        size,
        program: new URL("./reduce-output-program.ts", import.meta.url),
        options: { backend },
        groups: { dcp, query },
        deadlineMs: 20_000,
      });
      // A backend keeps its scratch memory between calls: nothing but that may stay.
      let used: number[] | undefined;
      for (const dtype of ["f32", "bf16"] as const satisfies readonly DType[]) {
        const random = new RandomStream(size * 100 + heads);
        const partialOut = Tensor.from(
          world.heap,
          dtype,
          [size, batch, heads, dim],
          random.normals(size * batch * heads * dim),
        );
        for (const base of ["e", "2"] as const satisfies readonly LseBase[]) {
          const lses = random.normals(size * batch * heads).map((value) => 4 * value);
          // Row 0 of head 0 is empty everywhere; every fifth state is empty and holds NaN.
          for (let index = 0; index < lses.length; index++) {
            if (index % 5 === 2 || index % (batch * heads) === 0) lses[index] = Number.NEGATIVE_INFINITY;
          }
          const partialLse = Tensor.from(world.heap, "f32", [size, batch, heads], lses);
          for (let rank = 0; rank < size; rank++) {
            for (let b = 0; b < batch; b++) {
              for (let h = 0; h < heads; h++) {
                if (partialLse.at(rank, b, h) !== Number.NEGATIVE_INFINITY) continue;
                partialOut.select(0, rank).select(0, b).select(0, h).fill(Number.NaN);
              }
            }
          }
          const known: number[][] = [];
          for (const combine of ["ag-rs", "a2a", "one-shot"] as const) {
            const results = await world.call("reduce", [
              {
                dcpGroup: "dcp",
                queryGroup: "query",
                partialOut: partialOut.descriptor,
                partialLse: partialLse.descriptor,
                combine,
                base,
              },
            ]);
            used ??= await world.call("usedBytes", []);
            for (const [rank, result] of results.entries()) {
              const members = groupOf(query, rank);
              const own = headRange(heads, members.indexOf(rank), members.length);
              const expected = mergeInFloat64(partialOut, partialLse, groupOf(dcp, rank), own, base);
              expectClose(result.lse, expected.lse, 1e-5);
              // ag-rs rounds each corrected output to 16 bits before the sum: one unit in the last place for each rank.
              expectClose(result.out, expected.out, dtype === "f32" ? 1e-5 : size * 2 ** -7);
              // In f32 every combine gives the same bits on wasm. (toEqual tells 0 from -0.)
              const bits = [...result.out, ...result.lse];
              if (combine === "ag-rs" && (dtype !== "f32" || backend === "reference")) continue;
              known[rank] ??= bits;
              expect(bits).toEqual(known[rank] ?? []);
            }
          }
          partialLse.free();
        }
        partialOut.free();
      }
      expect(await world.call("usedBytes", [])).toEqual(used ?? []);
    },
  );

  test("the query gather puts every rank's heads in rank order", async () => {
    await using world = await openWorld<typeof program>({
      size,
      program: new URL("./reduce-output-program.ts", import.meta.url),
      options: { backend: "wasm" },
      groups: { dcp, query },
    });
    const whole = Tensor.from(world.heap, "f32", [batch, heads, dim], new RandomStream(5).normals(batch * heads * dim));
    for (const gathered of await world.call("prepareQuery", [whole.descriptor, "query", heads])) {
      expect(gathered).toEqual([...whole.toNumbers()]);
    }
  });
});

test("unless told otherwise it takes a2a, which leaves partial results as they are", async () => {
  await using world = await openWorld<typeof program>({
    size: 3,
    program: new URL("./reduce-output-program.ts", import.meta.url),
    options: { backend: "wasm" },
  });
  const random = new RandomStream(11);
  const partialOut = Tensor.from(world.heap, "bf16", [3, 2, 6, 8], random.normals(3 * 2 * 6 * 8));
  const partialLse = Tensor.from(world.heap, "f32", [3, 2, 6], random.normals(3 * 2 * 6));
  const reduction = {
    dcpGroup: "world",
    queryGroup: "world",
    partialOut: partialOut.descriptor,
    partialLse: partialLse.descriptor,
    base: "e",
  } as const;
  const byDefault = await world.call("reduce", [reduction]);
  expect(byDefault).toEqual(await world.call("reduce", [{ ...reduction, combine: DEFAULT_COMBINE }]));
  for (const { isPartialKept } of byDefault) expect(isPartialKept).toBe(true);
  // In 16 bits ag-rs rounds once more, and writes over partial outputs.
  const others = await world.call("reduce", [{ ...reduction, combine: "ag-rs" }]);
  for (const [rank, { out, isPartialKept }] of others.entries()) {
    expect(out).not.toEqual(byDefault[rank]?.out ?? []);
    expect(isPartialKept).toBe(false);
  }
});

test.each(["ag-rs", "a2a", "one-shot"] as const)(
  "bad results are refused before ranks meet, and leave nothing allocated, by %s",
  async (combine) => {
    await using world = await openWorld<typeof program>({
      size: 2,
      program: new URL("./reduce-output-program.ts", import.meta.url),
      options: { backend: "wasm" },
    });
    for (const said of await world.call("refused", [combine])) {
      expect(said.length).toBe(8);
      for (const { what, tag, argument, left } of said) {
        const field = what.split(" ", 1)[0] ?? "";
        expect([what, tag, left]).toEqual([what, what === "lse freed" ? "UseAfterFree" : "ArgumentError", 0]);
        expect(argument).toBe(field);
      }
    }
    // The group is whole.
    const one = Tensor.from(world.heap, "f32", [2, 1, 2, 1], [1, 1, 3, 3]);
    const lses = Tensor.zeros(world.heap, "f32", [2, 1, 2]);
    const groups = { dcpGroup: "world", queryGroup: "world" };
    const tensors = { partialOut: one.descriptor, partialLse: lses.descriptor };
    for (const { out } of await world.call("reduce", [{ ...groups, ...tensors, combine, base: "e" }])) {
      expect(out).toEqual([2]);
    }
  },
);

function mergeInFloat64(
  partialOut: Tensor,
  partialLse: Tensor,
  ranks: readonly number[],
  own: { readonly start: number; readonly end: number },
  base: LseBase,
): { out: number[]; lse: number[] } {
  const unit = base === "e" ? 1 : 1 / LOG2_E;
  const [, batch = 0, , dim = 0] = partialOut.shape;
  const out: number[] = [];
  const lse: number[] = [];
  for (let b = 0; b < batch; b++) {
    for (let h = own.start; h < own.end; h++) {
      const states = ranks.map((rank) => partialLse.at(rank, b, h) * unit);
      const max = Math.max(...states);
      const sum = states.reduce(
        (total, state) => total + (max === Number.NEGATIVE_INFINITY ? 0 : Math.exp(state - max)),
        0,
      );
      lse.push(sum === 0 ? Number.NEGATIVE_INFINITY : (max + Math.log(sum)) / unit);
      for (let d = 0; d < dim; d++) {
        let value = 0;
        for (const [index, state] of states.entries()) {
          if (state === Number.NEGATIVE_INFINITY) continue;
          value += (Math.exp(state - max) / sum) * partialOut.at(ranks[index] ?? 0, b, h, d);
        }
        out.push(value);
      }
    }
  }
  return { out, lse };
}

function expectClose(actual: readonly number[], expected: readonly number[], tolerance: number): void {
  expect(actual.length).toBe(expected.length);
  for (const [index, want] of expected.entries()) {
    const got = actual[index] ?? Number.NaN;
    if (got !== want && !(Math.abs(got - want) <= tolerance * (1 + Math.abs(want)))) {
      throw new Error(`element ${index}: ${got} instead of ${want}`);
    }
  }
}
