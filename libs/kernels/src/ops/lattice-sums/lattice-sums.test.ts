import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { ArgumentError, SharedHeap, Tensor } from "@lockstep/tensor";
import fc from "fast-check";
import { openBackend } from "../../backends/open-backend.ts";
import { expectRejected, testCases } from "../../testing/op-case.ts";
import { LATTICE_SUMS_CASES } from "./cases.ts";
import type { UnplannedLatticeSumsArgs } from "./index.ts";
import { isNotFinite, joinWords, latticeExponent, MOST_LATTICE_KEYS, NOT_FINITE, splitWords } from "./lattice.ts";
import { latticeSumsReference } from "./reference.ts";

setDefaultTimeout(120_000);

const heap = SharedHeap.create(64 << 20);
const backends = [await openBackend("reference", { heap }), await openBackend("wasm", { heap })];
afterAll(() => Promise.all(backends.map((backend) => backend.close())));

testCases(heap, backends, {
  name: "latticeSums",
  cases: LATTICE_SUMS_CASES,
  outputs: (args) => [["sums", args.sums]],
  reference: latticeSumsReference,
  run: (backend, args) => backend.latticeSums(args),
});

describe("the words of a sum", () => {
  const sum = fc.integer({ min: -MOST_LATTICE_KEYS, max: MOST_LATTICE_KEYS }).map((keys) => keys * 2 ** 26 + 1);

  test("are those of the sum of up to 32 ranks, however they are added", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -(2 ** 44), max: 2 ** 44 }), { maxLength: 32 }), (parts) => {
        const low = Int32Array.of(0);
        const high = Int32Array.of(0);
        for (const part of parts) {
          const [partLow, partHigh] = splitWords(part);
          low[0] = (low[0] ?? 0) + partLow;
          high[0] = (high[0] ?? 0) + partHigh;
        }
        expect(joinWords(low[0] ?? 0, high[0] ?? 0)).toBe(parts.reduce((all, part) => all + part, 0));
      }),
    );
  });

  test("tell apart a finite sum and the marks of any of 32 ranks beside it", () => {
    fc.assert(
      fc.property(sum, fc.integer({ min: 0, max: 32 }), (finite, marks) => {
        const high = Int32Array.of(splitWords(finite)[1]);
        for (let mark = 0; mark < marks; mark++) high[0] = (high[0] ?? 0) + NOT_FINITE;
        expect(isNotFinite(high[0] ?? 0)).toBe(marks > 0);
      }),
    );
  });

  test("stand for steps that follow from the bounds", () => {
    expect(latticeExponent(3, 5.5, 7)).toBe(3);
    expect(latticeExponent(3, 5, 1)).toBe(1);
    // Scores too large to tell what is added to them.
    expect(latticeExponent(1e9, 1e9, 7)).toBe(7);
    expect(latticeExponent(0, -1000, 0)).toBe(-300);
    expect(latticeExponent(3, Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY)).toBe(0);
  });
});

const tensor = (dtype: "f32" | "i32", ...shape: number[]): Tensor => Tensor.zeros(heap, dtype, shape);
const sums = tensor("i32", 1, 1, 3, 2);
const good: UnplannedLatticeSumsArgs = {
  query: tensor("f32", 1, 1, 2),
  keyCache: tensor("f32", 1, 2, 1, 2),
  valueCache: tensor("f32", 1, 2, 1, 2),
  blockTable: tensor("i32", 1, 1),
  sequences: [0],
  positions: [1],
  bounds: tensor("f32", 3, 1, 1),
  sums,
};
const BAD: readonly [what: string, changes: Partial<UnplannedLatticeSumsArgs>, message: RegExp][] = [
  ["bounds of another shape", { bounds: tensor("f32", 2, 1, 1) }, /`bounds` must be of shape \[3, 1, 1\]/],
  ["sums of another shape", { sums: tensor("i32", 1, 1, 2, 2) }, /`sums` must be of shape \[1, 1, 3, 2\]/],
  ["sums in f32", { sums: tensor("f32", 1, 1, 3, 2) }, /`sums` must be of dtype i32/],
  ["scores without room", { scores: tensor("f32", 1, 1, 1) }, /`scores` must be of room for the 2 keys/],
  ["scores with gaps", { scores: tensor("f32", 1, 1, 4).slice(2, 0, 4, 2) }, /`scores` must be of stride 1/],
  ["a block out of range", { blockTable: tensor("i32", 1, 1).fill(1) }, /`blockTable\[0, 0\]`/],
  ["a flag that is none", { continues: JSON.parse("1") }, /`continues` must be true or false, but is 1/],
];

for (const backend of backends) {
  describe(`latticeSums on ${backend.name} rejects`, () => {
    for (const [what, changes, message] of BAD) {
      test(what, () =>
        expectRejected(() => backend.latticeSums({ ...good, ...changes }), ArgumentError, message, [sums]),
      );
    }
  });
}
