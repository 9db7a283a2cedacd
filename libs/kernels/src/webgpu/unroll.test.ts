import { expect, setDefaultTimeout, test } from "bun:test";
import { unrollLoops } from "./unroll.ts";

setDefaultTimeout(120_000);

const squeezed = (text: string): string => text.replace(/\s+/g, " ").trim();

test("marked loops are written out, also inside each other; others stay", () => {
  const source = `fn f() {
  for (var r = 0u; r < ROWS; r++) { // unroll
    for (var k = 0u; k < KEYS; k++) { // unroll
      if (a[r] < k) { b[k * ROWS + r] += row; }
    }
  }
  for (var t = 0u; t < ROWS; t++) { c[t] = 0; }
}`;
  expect(squeezed(unrollLoops(source, { ROWS: 2, KEYS: 1 }))).toBe(
    squeezed(`fn f() {
  { { if (a[0u] < 0u) { b[0u * ROWS + 0u] += row; } } }
  { { if (a[1u] < 0u) { b[0u * ROWS + 1u] += row; } } }
  for (var t = 0u; t < ROWS; t++) { c[t] = 0; }
}`),
  );
});

test("a loop to a bound that is no known number is an error", () => {
  const source = "for (var r = 0u; r < ROWS; r++) { // unroll\n}";
  expect(() => unrollLoops(source, {})).toThrow(/ROWS/);
  expect(() => unrollLoops(source.slice(0, -1), { ROWS: 1 })).toThrow(/no end/);
});
