// `bun run bench:gpu`: GPU ops against the copy and read ceilings of the same run, and against recorded times of
// others. --batch-invariant: attention whose rows keep their bits in any step, without matrix units.
import { readFileSync, writeFileSync } from "node:fs";
import { readCommandLine } from "../../scripts/command-line.ts";
import { drawShares } from "../draw-shares.ts";
import { exitWithMessage } from "../exit-with-message.ts";
import { printTable } from "../print-table.ts";
import type { Ceilings, Report, RowReport } from "../report.ts";
import type { BenchRow } from "./bench-row.ts";
import { copySeconds, measureCeilings } from "./ceilings.ts";
import { GpuBench } from "./gpu-bench.ts";
import { recordedAnchor } from "./recorded.ts";
import { ROWS, SMALL_ROWS } from "./rows.ts";

const NAME = "bench:gpu";
const { values: options } = readCommandLine({
  name: NAME,
  does: "Times GPU ops against the copy and read ceilings of the same run, and recorded times of others.",
  options: {
    json: { type: "boolean", default: false, help: "figures as JSON" },
    plot: { type: "string", default: "", takes: "FILE", help: "also a drawing of them, as SVG" },
    from: { type: "string", default: "", takes: "FILE", help: "draws figures written earlier, and times none" },
    matrices: { type: "string", default: "native", takes: "M", help: "off: no matrix units" },
    "batch-invariant": { type: "boolean", default: false, help: "rows keep their bits in any step" },
    only: { type: "string", default: "", takes: "A|B", help: "rows whose names contain one of these" },
    software: { type: "boolean", default: false, help: "small shapes on software Vulkan, to check the bench" },
    enable: { type: "string", default: "", takes: "T,T", help: "Dawn's toggles to set" },
    disable: { type: "string", default: "", takes: "T,T", help: "Dawn's toggles to clear" },
  },
});
const names = (list: string): string[] => list.split(",").filter((name) => name !== "");

if (options.from === "") {
  const report = await run().catch((error) => exitWithMessage(NAME, error));
  if (options.json) console.log(JSON.stringify(report, null, 1));
  else print(report.rows);
  if (options.plot !== "") writeFileSync(options.plot, drawShares(report));
} else {
  writeFileSync(options.plot, drawShares(JSON.parse(readFileSync(options.from, "utf8")) as Report));
}

async function run(): Promise<Report> {
  const bench = await GpuBench.open(
    options.software ? "software" : "hardware",
    options.matrices === "off" || options["batch-invariant"] ? "off" : "native",
    options["batch-invariant"],
    names(options.enable),
    names(options.disable),
  );
  try {
    const { device } = bench.backend;
    const ceilings = await measureCeilings(bench, options.software ? 1 << 20 : 1 << 30);
    if (!options.json) {
      console.log(
        `${device}, subgroups of ${bench.gpu.subgroupWidth}, matrix units: ${bench.gpu.matrixUnits ?? "none"}`,
      );
      console.log(`ceilings: copy ${gigabytes(ceilings.copy)} GB/s, read ${gigabytes(ceilings.read)} GB/s`);
    }
    const rows: RowReport[] = [];
    for (const row of options.software ? SMALL_ROWS : ROWS) {
      const name = `${row.op} ${row.shape} ${row.dtype}`;
      if (!options.only.split("|").some((part) => name.includes(part))) continue;
      try {
        rows.push(await measure(bench, row, ceilings));
      } catch (error) {
        console.error(`${name}: ${error instanceof Error ? error.message : error}`);
        process.exitCode = 1;
      }
    }
    return { device, ceilings, rows };
  } finally {
    await bench.close();
  }
}

async function measure(bench: GpuBench, row: BenchRow, ceilings: Ceilings): Promise<RowReport> {
  const prepared = await row.prepare(bench);
  try {
    for (const output of prepared.outputs) await bench.poison(output);
    await bench.finish(() => prepared.run(0));
    for (const output of prepared.outputs) await bench.expectWritten(`${row.op} ${row.shape}`, output);
    const error = await prepared.error();
    if (!(error <= 1)) throw new Error(`${row.op} ${row.shape} ${row.dtype}: wrong, error ${error} of the tolerance`);
    const seconds = await bench.secondsPerCall(prepared.run);
    const share = row.ceiling === "copy" ? (await copySeconds(bench, row.bytes)) / seconds : undefined;
    const recorded = recordedAnchor(bench.backend.device, row.op, row.shape, row.dtype);
    const anchor = recorded && {
      name: recorded.name,
      microseconds: recorded.seconds * 1e6,
      speedup: recorded.seconds / seconds,
    };
    return {
      op: row.op,
      shape: row.shape,
      dtype: row.dtype,
      microseconds: seconds * 1e6,
      gigabytesPerSecond: row.bytes / seconds / 1e9,
      ...(row.flops === undefined ? {} : { teraflopsPerSecond: row.flops / seconds / 1e12 }),
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

function print(results: readonly RowReport[]): void {
  const header = ["op", "dtype", "us", "GB/s", "of ceiling", "of same size", "TFLOP/s", "anchor us", "speed-up"];
  const cells = results.map((result) => [
    `${result.op} ${result.shape}`,
    result.dtype,
    result.microseconds.toFixed(1),
    result.gigabytesPerSecond.toFixed(0),
    `${result.shareOfCeiling.toFixed(2)} ${result.ceiling}`,
    result.shareOfCopyOfThatSize?.toFixed(2) ?? "",
    result.teraflopsPerSecond?.toFixed(0) ?? "",
    result.anchor === undefined ? "" : `${result.anchor.microseconds.toFixed(1)} ${result.anchor.name}`,
    result.anchor === undefined ? "" : result.anchor.speedup.toFixed(2),
  ]);
  printTable(header, cells);
}

function gigabytes(bytesPerSecond: number): string {
  return (bytesPerSecond / 1e9).toFixed(0);
}
