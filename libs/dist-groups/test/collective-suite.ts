import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type MethodsOf, openWorld, type World } from "../src/index.ts";
import { type CollectiveCase, type Placement, SUMMED_DTYPES } from "./collective-cases.ts";

/** Small, so that the cases cover both protocols: staged and direct. */
const STAGING_BYTES = 2048;
const REPEATS = 20;
const SIZES = [1, 2, 3, 4, 8];
const PLACEMENTS: readonly Placement[] = ["contiguous", "sliced", "transposed", "stepped"];

const base: Omit<CollectiveCase, "op"> = {
  dtype: "f32",
  shape: [6, 10],
  dim: 0,
  reduction: "sum",
  input: "contiguous",
  output: "contiguous",
  inPlace: false,
  root: 0,
};

/** Shapes with uneven chunks, empty ones, one element, and enough bytes for the direct protocol. */
const SHAPES: readonly (readonly number[])[] = [
  [0],
  [1],
  [5],
  [17],
  [3, 5],
  [0, 4],
  [5, 0],
  [4, 3, 2],
  [7, 131],
  [1201],
  [3, 200, 2],
];

function withDims(shape: readonly number[], dims: boolean): { shape: readonly number[]; dim: number }[] {
  return dims ? shape.map((_, dim) => ({ shape, dim })) : [{ shape, dim: 0 }];
}

/** The standard cases of a collective. */
export function standardCases(
  op: CollectiveCase["op"],
  varies: { dims?: boolean; reductions?: boolean; inPlace?: boolean; roots?: boolean },
): CollectiveCase[] {
  const cases: CollectiveCase[] = [];
  for (const shape of SHAPES)
    for (const at of withDims(shape, varies.dims ?? false)) cases.push({ ...base, op, ...at });
  for (const dtype of SUMMED_DTYPES) {
    for (const shape of [[37], [3, 701]]) {
      cases.push({ ...base, op, dtype, shape });
    }
    for (const reduction of varies.reductions === true ? (["max", "min"] as const) : []) {
      cases.push({ ...base, op, dtype, shape: [37], reduction });
    }
  }
  for (const input of PLACEMENTS) {
    for (const output of PLACEMENTS) {
      cases.push({ ...base, op, shape: [6, 10], input, output, dtype: "bf16" });
      if (input === output) cases.push({ ...base, op, shape: [33, 65], input, output, dtype: "bf16" });
    }
  }
  if (varies.inPlace === true) {
    for (const input of PLACEMENTS) {
      for (const shape of [
        [6, 10],
        [19, 130],
      ]) {
        for (const at of withDims(shape, varies.dims ?? false)) {
          cases.push({ ...base, op, ...at, input, output: input, inPlace: true });
        }
      }
    }
  }
  if (varies.roots === true)
    for (const root of [1, 2, 5]) cases.push({ ...base, op, root }, { ...base, op, root, shape: [700] });
  return cases;
}

/** Runs cases in worlds of 1, 2, 3, 4 and 8 ranks, 20 times each, every result bit for bit against the reference. */
export function describeCollective(op: string, cases: readonly CollectiveCase[]): void {
  setDefaultTimeout(120_000);
  describe(op, () => {
    for (const size of SIZES) {
      describe(`${size} ranks`, () => {
        let world: World<MethodsOf<typeof import("./collective-program.ts")>>;
        beforeAll(async () => {
          world = await openWorld<typeof import("./collective-program.ts")>({
            size,
            program: new URL("./collective-program.ts", import.meta.url),
            stagingBytes: STAGING_BYTES,
            stagedLimit: STAGING_BYTES,
            heapBytesPerRank: 16 << 20,
          });
        });
        afterAll(() => world.close());

        test(`${cases.length} cases, ${REPEATS} times each, bit for bit`, async () => {
          const results = await world.call("run", [cases, 11 * size, REPEATS]);
          expect(results).toEqual(Array.from({ length: size }, () => ({ cases: cases.length, leaked: 0 })));
        });
      });
    }
  });
}
