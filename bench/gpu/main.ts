// `bun run bench:gpu`: GPU ops against the copy and read ceilings of the same run, and against recorded times of others.
import { parseArgs } from "node:util";
import { printTable } from "./print-table.ts";
import type { BenchRow } from "./bench-row.ts";
import { type Ceilings, copySeconds, measureCeilings } from "./ceilings.ts";
import { GpuBench } from "./gpu-bench.ts";
import { ROWS, SMALL_ROWS } from "./rows.ts";

/** A row's figures. */
interface Result {
  readonly op: string;
  readonly shape: string;
  readonly dtype: string;
  readonly microseconds: number;
  readonly gigabytesPerSecond: number;
  readonly ceiling: "copy" | "read";
  readonly shareOfCeiling: number;
  /** For copies: against a copy that moves as many bytes in one dispatch. */
  readonly shareOfCopyOfThatSize?: number;
  readonly anchor?: { readonly name: string; readonly microseconds: number; readonly speedup: number };
  readonly error: number;
}

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    only: { type: "string", default: "" },
    software: { type: "boolean", default: false },
    enable: { type: "string", default: "" },
    disable: { type: "string", default: "" },
  },
});
const names = (list: string): string[] => list.split(",").filter((name) => name !== "");

const bench = await GpuBench.open(
  options.software ? "software" : "hardware",
  names(options.enable),
  names(options.disable),
);
try {
  const ceilings = await measureCeilings(bench, options.software ? 1 << 20 : 1 << 30);
  if (!options.json) {
    console.log(`${bench.backend.device}, subgroups of ${bench.gpu.subgroupWidth}`);
    console.log(`ceilings: copy ${gigabytes(ceilings.copy)} GB/s, read ${gigabytes(ceilings.read)} GB/s`);
  }
  const results: Result[] = [];
  for (const row of options.software ? SMALL_ROWS : ROWS) {
    const name = `${row.op} ${row.shape} ${row.dtype}`;
    if (!options.only.split("|").some((part) => name.includes(part))) continue;
    try {
      results.push(await measure(row, ceilings));
    } catch (error) {
      console.error(`${row.op} ${row.shape} ${row.dtype}: ${error instanceof Error ? error.message : error}`);
      process.exitCode = 1;
    }
  }
  if (options.json) console.log(JSON.stringify({ device: bench.backend.device, ceilings, rows: results }, null, 1));
  else print(results);
} finally {
  await bench.close();
}

async function measure(row: BenchRow, ceilings: Ceilings): Promise<Result> {
  const prepared = await row.prepare(bench);
  try {
    for (const output of prepared.outputs) await bench.poison(output);
    await bench.finish(() => prepared.run(0));
    for (const output of prepared.outputs) await bench.expectWritten(`${row.op} ${row.shape}`, output);
    const error = await prepared.error();
    if (!(error <= 1)) throw new Error(`${row.op} ${row.shape} ${row.dtype}: wrong, error ${error} of the tolerance`);
    const seconds = await bench.secondsPerCall(prepared.run);
    const share = row.ceiling === "copy" ? (await copySeconds(bench, row.bytes)) / seconds : undefined;
    const anchor = row.anchor && {
      name: row.anchor.name,
      microseconds: row.anchor.seconds * 1e6,
      speedup: row.anchor.seconds / seconds,
    };
    return {
      op: row.op,
      shape: row.shape,
      dtype: row.dtype,
      microseconds: seconds * 1e6,
      gigabytesPerSecond: row.bytes / seconds / 1e9,
      ceiling: row.ceiling,
      shareOfCeiling: row.bytes / seconds / ceilings[row.ceiling],
      ...(share === undefined ? {} : { shareOfCopyOfThatSize: share }),
      ...(anchor === undefined ? {} : { anchor }),
      error,
    };
  } finally {
    prepared.free();
  }
}

function print(results: readonly Result[]): void {
  const header = ["op", "dtype", "us", "GB/s", "of ceiling", "of same size", "anchor us", "speed-up"];
  const cells = results.map((result) => [
    `${result.op} ${result.shape}`,
    result.dtype,
    result.microseconds.toFixed(1),
    result.gigabytesPerSecond.toFixed(0),
    `${result.shareOfCeiling.toFixed(2)} ${result.ceiling}`,
    result.shareOfCopyOfThatSize?.toFixed(2) ?? "",
    result.anchor === undefined ? "" : `${result.anchor.microseconds.toFixed(1)} ${result.anchor.name}`,
    result.anchor === undefined ? "" : result.anchor.speedup.toFixed(2),
  ]);
  printTable(header, cells);
}

function gigabytes(bytesPerSecond: number): string {
  return (bytesPerSecond / 1e9).toFixed(0);
}
