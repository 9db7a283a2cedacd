import { expect, test } from "bun:test";
import fc from "fast-check";
import { LikeliestTokens } from "./likeliest-tokens.ts";

function sorted(logits: Float32Array): number[] {
  const at = (id: number): number => logits[id] ?? Number.NaN;
  return Array.from(logits.keys()).sort((a, b) => at(b) - at(a) || a - b);
}

const anyLogit = fc.float({ noNaN: true, noDefaultInfinity: true });
/** Few different ones, 0 and -0 among them. */
const equalLogits = fc.constantFrom(0, -0, 1, -1, 1e-45, -1e-45);

test.each([1, 2, 3, 5, 7, 113])("the likeliest of %d tokens, the lowest id first among equals", (size) => {
  const likeliest = new LikeliestTokens(size);
  const rows = fc.array(fc.oneof(anyLogit, equalLogits), { minLength: size, maxLength: size });
  fc.assert(
    fc.property(rows, fc.nat(size + 2), (values, wanted) => {
      const logits = Float32Array.from(values);
      likeliest.find(logits, wanted);
      expect([...likeliest.ids.subarray(0, likeliest.count)]).toEqual(sorted(logits).slice(0, wanted));
    }),
    { numRuns: 300 },
  );
});

test.each(["rising", "falling", "equal"])("of a large row, %s", (order) => {
  const size = 4096;
  const logits = Float32Array.from({ length: size }, (_, id) => {
    if (order === "equal") return 2;
    return order === "rising" ? id : -id;
  });
  const likeliest = new LikeliestTokens(size);
  for (const wanted of [0, 1, 20, 64, 2047, 2048, 2049, 4096]) {
    likeliest.find(logits, wanted);
    expect([...likeliest.ids.subarray(0, likeliest.count)]).toEqual(sorted(logits).slice(0, wanted));
  }
});
