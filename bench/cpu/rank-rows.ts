// Decode attention over two ranks: a whole step (query gather, partial attention, combine) of one layer.
import { openWorld } from "@lockstep/dist-groups";
import { DTYPE_BYTES } from "@lockstep/tensor";
import type * as program from "../long-context-program.ts";
import type { LongContext } from "../long-context-program.ts";
import type { RowReport } from "../report.ts";
import type { CeilingMeter } from "./ceilings.ts";
import { isWanted, rowReport } from "./row-report.ts";

const SHAPES: readonly LongContext[] = [
  { queryHeads: 64, kvHeads: 8, headDim: 64, kvDtype: "f16", lengths: [7680] },
  { queryHeads: 64, kvHeads: 8, headDim: 64, kvDtype: "f32", lengths: [7680] },
  { queryHeads: 32, kvHeads: 8, headDim: 128, kvDtype: "f32", lengths: [32_768] },
];
/** Fewer steps would time the code of the first compiler: the optimising one shares the cores with the ranks. */
const [WARM_UP_STEPS, STEPS] = [400, 100];
/** f32 results of one rank and of two differ by the order of sums. */
const TOLERANCE = 1e-4;

/**
 * Figures of one and of two ranks in the rows that contain `only`, whose results are compared; two ranks may read twice
 * as fast as the ceiling of a core.
 */
export async function measureRanks(meter: CeilingMeter, only: string): Promise<RowReport[]> {
  const rows: RowReport[] = [];
  for (const shape of SHAPES) {
    let expected: readonly number[] | undefined;
    for (const size of [1, 2]) {
      const { queryHeads, kvHeads, headDim, kvDtype, lengths } = shape;
      const tokens = lengths[0] ?? 0;
      const row = {
        op: size === 1 ? "decode, 1 rank" : `decode, ${size} ranks`,
        shape: `Hq${queryHeads} Hkv${kvHeads} L${tokens} D${headDim}`,
        dtype: kvDtype,
        bytes: 2 * tokens * kvHeads * headDim * DTYPE_BYTES[kvDtype],
        flops: 4 * tokens * queryHeads * headDim,
        ceiling: "read",
      } as const;
      if (!isWanted(row, only)) continue;
      const ceilings = meter.measure();
      const { seconds, out } = await timeStep(size, shape);
      expected ??= out;
      rows.push(rowReport(row, seconds, errorOf(out, expected), ceilings));
    }
  }
  return rows;
}

async function timeStep(size: number, shape: LongContext): Promise<{ seconds: number; out: number[] }> {
  await using world = await openWorld<typeof program>({
    size,
    program: new URL("../long-context-program.ts", import.meta.url),
    options: shape,
    heapBytesPerRank: 768 << 20,
    deadlineMs: 120_000,
  });
  await world.call("decode", [WARM_UP_STEPS]);
  const results = await world.call("decode", [STEPS]);
  return {
    seconds: Math.max(...results.map(({ milliseconds }) => milliseconds)) / 1e3,
    out: results.flatMap(({ out }) => out),
  };
}

function errorOf(actual: readonly number[], expected: readonly number[]): number {
  const errors = expected.map((want, index) => Math.abs((actual[index] ?? Number.NaN) - want) / (1 + Math.abs(want)));
  const largest = Math.max(...errors) / TOLERANCE;
  if (!(largest <= 1)) throw new Error(`two ranks differ from one by ${largest} of the tolerance`);
  return largest;
}
