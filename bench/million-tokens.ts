import { openWorld } from "@lockstep/dist-groups";
import type * as program from "../tests/capacity/capacity-program.ts";
import { type CapacityShape, referenceAttention } from "../tests/capacity/capacity-rows.ts";
import { printTable } from "./print-table.ts";

const RANKS = 4;
const LAYER = { layers: 1, queryHeads: 32, kvHeads: 8, headDim: 128 } as const;
/** Tokens, and steps that are timed. */
const ROWS = [
  [2 ** 15, 101],
  [2 ** 20, 11],
] as const;
const TOLERANCE = 1e-4;
/** Most that the time may grow beyond the tokens. */
const TARGET = 1.1;

/**
 * Decode attention of one layer over 4 GiB of KV in the ranks' own memories, beside the same over a 32nd of it.
 * Outputs are compared with float64.
 */
export async function benchMillionTokens(): Promise<void> {
  const { queryHeads, kvHeads, headDim } = LAYER;
  console.log(
    `\nDecode attention, one layer, ${RANKS} ranks, Hq${queryHeads} Hkv${kvHeads} D${headDim} f16, wasm, ` +
      "memories of their own",
  );
  const rows: string[][] = [];
  let short = Number.NaN;
  for (const [tokens, steps] of ROWS) {
    const shape: CapacityShape = { ...LAYER, tokens };
    await using world = await openWorld<typeof program>({
      size: RANKS,
      program: new URL("../tests/capacity/capacity-program.ts", import.meta.url),
      options: shape,
      heapBytesPerRank: 4 << 20,
      startDeadlineMs: 300_000,
      deadlineMs: 600_000,
    });
    await world.call("fill", []);
    const times: number[] = [];
    for (let step = -3; step < steps; step++) {
      const results = await world.call("attend", [0]);
      if (step < 0) continue;
      times.push(Math.max(...results.map(({ milliseconds }) => milliseconds)));
      if (step > 0) continue;
      const out = results.flatMap((rank) => rank.out);
      for (const head of [0, queryHeads - 1]) checkHead(shape, head, out);
    }
    const milliseconds = times.toSorted((a, b) => a - b)[times.length >> 1] ?? Number.NaN;
    const per32k = milliseconds / (tokens / 2 ** 15);
    if (tokens === 2 ** 15) short = milliseconds;
    const gigabytes = (tokens * 2 * kvHeads * headDim * 2) / milliseconds / 1e6;
    const isMissed = per32k / short > TARGET;
    rows.push([
      `${tokens} tokens`,
      milliseconds.toFixed(2),
      gigabytes.toFixed(1),
      (per32k / short).toFixed(2),
      isMissed ? `more than ${TARGET}` : "",
    ]);
  }
  printTable(["context", "ms a step", "GB/s", "of 32k, a token", ""], rows);
}

function checkHead(shape: CapacityShape, head: number, out: readonly number[]): void {
  const expected = referenceAttention(shape, 0, head).out;
  for (const [column, value] of expected.entries()) {
    const found = out[head * shape.headDim + column] ?? Number.NaN;
    if (!(Math.abs(found - value) <= TOLERANCE)) {
      throw new Error(`head ${head}, column ${column}: expected ${value}, but found ${found}`);
    }
  }
}
