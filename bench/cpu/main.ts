// `bun run bench:cpu`: ops on the wasm backend and the demo's linear layers on one core, and decode steps over two
// ranks, against the copy and read ceilings of one core beside each row and against recorded times of others.
import { writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { SharedHeap } from "@lockstep/tensor";
import { readCommandLine } from "../../scripts/command-line.ts";
import { drawShares } from "../draw-shares.ts";
import { printTable } from "../print-table.ts";
import type { Report, RowReport } from "../report.ts";
import { formatSeconds } from "../timing.ts";
import { CeilingMeter } from "./ceilings.ts";
import { measureLinear } from "./linear-rows.ts";
import { measureOps } from "./op-rows.ts";
import { measureRanks } from "./rank-rows.ts";

const { values: options } = readCommandLine({
  name: "bench:cpu",
  does: "Times ops and linear layers on one core, and decode steps over two ranks, against what a core can do.",
  options: {
    only: { type: "string", default: "", takes: "TEXT", help: "rows whose op, shape and dtype contain it" },
    json: { type: "boolean", default: false, help: "figures as JSON" },
    plot: { type: "string", default: "", takes: "FILE", help: "also a drawing of them, as SVG" },
  },
});
const heap = SharedHeap.create(1 << 30);
const meter = new CeilingMeter(heap);
const ceilings = meter.measure();
const device = `${cpus()[0]?.model.trim() ?? "unknown processor"}, ${availableParallelism()} cores`;
const report: Report = {
  device,
  ceilings,
  rows: [
    ...(await measureOps(heap, meter, options.only)),
    ...measureLinear(heap, meter, options.only),
    ...(await measureRanks(meter, options.only)),
  ],
};
if (options.json) console.log(JSON.stringify(report, null, 1));
else {
  const [copy, read] = [ceilings.copy, ceilings.read].map((bytes) => (bytes / 1e9).toFixed(1));
  console.log(`${device}; ceilings of one core: copy ${copy} GB/s (read and written), read ${read} GB/s`);
  printTable(["op", "dtype", "time", "GB/s", "of ceiling", "GFLOP/s", "anchor", "speed-up"], report.rows.map(cells));
}
if (options.plot !== "") writeFileSync(options.plot, drawShares(report));

function cells(row: RowReport): string[] {
  const { anchor, teraflopsPerSecond } = row;
  return [
    `${row.op} ${row.shape}`,
    row.dtype,
    formatSeconds(row.microseconds / 1e6),
    row.gigabytesPerSecond.toFixed(1),
    `${row.shareOfCeiling.toFixed(2)} ${row.ceiling}`,
    teraflopsPerSecond === undefined ? "" : (teraflopsPerSecond * 1e3).toFixed(1),
    anchor === undefined ? "" : `${formatSeconds(anchor.microseconds / 1e6)} ${anchor.name}`,
    anchor?.speedup.toFixed(2) ?? "",
  ];
}
