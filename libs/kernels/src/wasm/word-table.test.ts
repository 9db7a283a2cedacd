// Tables that TypeScript writes and kernels read lie as the kernels' constants say.
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { FINISH_TABLE } from "../ops/finish-lattice/wasm-table.ts";
import { ATTENTION_TABLE } from "../ops/partial-attention/wasm-table.ts";
import { VIEW_TABLE } from "../ops/write-kv-cache/wasm-table.ts";
import { STATE_TABLE } from "./state-table.ts";
import { WordTable } from "./word-table.ts";

/** Offsets in bytes of an AssemblyScript source: its constants of type usize. */
function offsets(file: string): Record<string, number> {
  const source = readFileSync(new URL(file, import.meta.url), "utf8");
  const constants = source.matchAll(/^(?:export )?const (\w+): usize = (\d+);/gm);
  return Object.fromEntries(Array.from(constants, ([, name = "", offset]) => [name, Number(offset)]));
}

test("parts lie one after another", () => {
  const { at, words } = new WordTable({ A: 3, B: 1, C: 2 });
  expect([at, words]).toEqual([{ A: 0, B: 3, C: 4 }, 6]);
});

test.each([
  ["../ops/partial-attention/attention-table.as.ts", ATTENTION_TABLE],
  ["../ops/finish-lattice/finish-lattice.as.ts", FINISH_TABLE],
  ["../ops/write-kv-cache/write-kv-cache.as.ts", VIEW_TABLE],
  ["./lse.as.ts", STATE_TABLE],
] as const)("%s has the same table", (file, table) => {
  const bytes = Object.fromEntries(Object.entries(table.at).map(([name, word]) => [name, word * 4]));
  expect(offsets(file)).toEqual(bytes);
});
