import { expect, test } from "bun:test";
import { formatBytes, formatRanks, formatTable } from "./report.ts";

test("columns line up to the right", () => {
  expect(
    formatTable(
      ["rank", "ms"],
      [
        ["0", "12.5"],
        ["10", "3"],
      ],
    ),
  ).toBe("rank    ms\n   0  12.5\n  10     3");
});

test("bytes in binary units", () => {
  expect([0, 1023, 1024, 1536, 12 << 20, 3 * 2 ** 30].map(formatBytes)).toEqual([
    "0 B",
    "1023 B",
    "1.0 KiB",
    "1.5 KiB",
    "12.0 MiB",
    "3.0 GiB",
  ]);
});

test("a row per rank", () => {
  const attention = {
    gatherMs: 1.25,
    attentionMs: 20,
    combineMs: 3,
    steps: 9,
    tokensHeld: 26,
    bytesHeld: 65536,
    bytesReceived: 2048,
    combine: "a2a",
    combineChoices: [],
    overlapped: 0,
    overlapChoices: [],
  } as const;
  const rank = {
    backend: "wasm",
    device: "SIMD",
    attention,
    tensorParallelBytes: 512,
    drafted: 0,
    accepted: 0,
  } as const;
  const lines = formatRanks([
    { rank: 0, ...rank },
    { rank: 1, ...rank },
  ]).split("\n");
  expect(lines.length).toBe(3);
  expect(lines[2]?.trim().split(/\s{2,}/)).toEqual(["1", "26", "64.0 KiB", "2.0 KiB", "512 B", "1.3", "20.0", "3.0"]);
});
