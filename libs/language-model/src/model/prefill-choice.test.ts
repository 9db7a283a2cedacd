import { expect, test } from "bun:test";
import { movesQueries } from "./prefill-choice.ts";

test("a step moves its queries when they are less than the keys of its context", () => {
  const rows = { ranks: 4, queryHeads: 8, kvHeads: 2, kvDtype: "f32" } as const;
  expect(movesQueries(32, 128, rows)).toBe(false);
  expect(movesQueries(32, 129, rows)).toBe(true);
  expect(movesQueries(32, 129, { ...rows, kvDtype: "f16" })).toBe(false);
  expect(movesQueries(32, 4 * 129, { ...rows, kvDtype: "i8" })).toBe(true);
});

test("a rank that holds all of a context has nothing to gather", () => {
  expect(movesQueries(256, 256, { ranks: 1, queryHeads: 8, kvHeads: 2, kvDtype: "f32" })).toBe(true);
});
