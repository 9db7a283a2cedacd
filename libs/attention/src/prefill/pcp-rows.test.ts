import { expect, test } from "bun:test";
import { pcpRows } from "./pcp-rows.ts";

test("rank r takes the r-th chunk of each sequence from both ends", () => {
  expect(pcpRows([8, 3], 2).map((rows) => [...rows])).toEqual([
    [0, 1, 6, 7, 10],
    [2, 3, 4, 5, 8, 9],
  ]);
  expect(pcpRows([3], 1).map((rows) => [...rows])).toEqual([[0, 1, 2]]);
});

test("every token has one rank, causal work is even", () => {
  for (const size of [1, 2, 3, 4, 8]) {
    for (const count of [0, 1, 7, 64, 1000]) {
      const rows = pcpRows([count], size);
      const all = rows.flatMap((own) => [...own]);
      expect(all.sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, token) => token));
      if (count < 1000) continue;
      const work = rows.map((own) => own.reduce((sum, token) => sum + token + 1, 0));
      expect(Math.max(...work) / Math.min(...work)).toBeLessThan(1.05);
    }
  }
});
