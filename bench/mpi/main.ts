// `bun run bench:mpi`: Lockstep's collectives over MPI beside the same collectives called from C over the same MPI.
//
// Both sides are jobs of their own under the same launcher with the same flags. They run windows of calls in turn, and
// sleep while it is the other's turn. Every window fills and poisons before and checks every element after. The table
// shows medians over the windows of the slowest rank's time, and medians of the ratios of windows that followed each
// other. Wrong data end the bench with exit code 1; a missed target is only marked.
import { writeFile } from "node:fs/promises";
import { availableParallelism, cpus } from "node:os";
import { readCommandLine, refuseCommand, wholeNumber } from "../../scripts/command-line.ts";
import { ensureMpi } from "../../scripts/mpi.ts";
import { MPI_IMPLEMENTATIONS } from "../../libs/dist-groups/test/mpi/mpi-launcher.ts";
import { median } from "../openmpi/cases.ts";
import { printTable } from "../print-table.ts";
import { formatSeconds } from "../timing.ts";
import { modelHosts } from "./hosts.ts";
import { type Row, rowsFor } from "./rows.ts";
import { compareSteps } from "./step.ts";
import { CSide, type Launch, LockstepSide } from "./windows.ts";

/** Windows in which the just-in-time compilers do their work. */
const WARM_UP = 2;

async function compare(
  launch: Launch,
  windows: number,
  stagedLimit: number | undefined,
  rows: readonly Row[],
): Promise<void> {
  await using ours = await LockstepSide.open(launch, { stagedLimit });
  await using peer = await CSide.open(launch);
  const table: string[][] = [];
  for (const { label, window, plainTarget, headerTarget } of rows) {
    const times = { ours: [] as number[], plain: [] as number[], header: [] as number[] };
    for (let turn = 0; turn < WARM_UP; turn++) await ours.window(window);
    // The first one warms up caches on both sides.
    for (let turn = -1; turn < windows; turn++) {
      const [our, plain, header] = [
        await ours.window(window),
        await peer.window("plain", window),
        await peer.window("header", window),
      ];
      if (turn < 0) continue;
      times.ours.push(our);
      times.plain.push(plain);
      times.header.push(header);
    }
    const judged = (than: readonly number[], target: number | undefined): string[] => {
      const ratio = median(times.ours.map((our, turn) => our / (than[turn] ?? Number.NaN)));
      const verdict = target === undefined ? "" : ratio <= target ? "met" : "missed";
      return [formatSeconds(median(than)), ratio.toFixed(2), target === undefined ? "" : `<= ${target}`, verdict];
    };
    table.push([
      label,
      formatSeconds(median(times.ours)),
      ...judged(times.plain, plainTarget),
      ...judged(times.header, headerTarget),
    ]);
  }
  console.log(
    `\n${launch.implementation}, ${launch.processes} processes, medians of ${windows} windows in turn, data checked:`,
  );
  const judged = ["ratio", "target", ""];
  printTable(["collective", "lockstep", "C", ...judged, "C with headers", ...judged], table);
}

const NAME = "bench:mpi";
const { values } = readCommandLine({
  name: NAME,
  does: "Times Lockstep's collectives over MPI beside the same collectives called from C over the same MPI.",
  options: {
    mpi: { type: "string", default: MPI_IMPLEMENTATIONS.join(","), takes: "NAME,NAME", help: "libraries" },
    processes: { type: "string", default: "2", takes: "N", help: "a rank each" },
    windows: { type: "string", default: "15", takes: "N", help: "of every side, in turn" },
    "staged-limit": { type: "string", takes: "BYTES", help: "largest messages that are staged; default: the world's" },
    "most-processes": { type: "string", default: "4", takes: "N", help: "that the model of N hosts is held against" },
    plot: { type: "string", takes: "FILE", help: "the model's curve, as an SVG" },
    only: { type: "string", takes: "TEXT", help: "rows that contain it" },
  },
});
const windows = wholeNumber(NAME, "windows", values.windows, 1);
const processes = wholeNumber(NAME, "processes", values.processes, 1);
const wanted = values.mpi.split(",");
const implementations = MPI_IMPLEMENTATIONS.filter((name) => wanted.includes(name));
if (implementations.length < wanted.length) refuseCommand(NAME, `--mpi takes ${MPI_IMPLEMENTATIONS.join(",")}`);
const most = wholeNumber(NAME, "most-processes", values["most-processes"], 2);
const { only, "staged-limit": staged } = values;
const stagedLimit = staged === undefined ? undefined : wholeNumber(NAME, "staged-limit", staged, 0);
try {
  ensureMpi();
  console.log(`${cpus()[0]?.model.trim() ?? "unknown processor"}, ${availableParallelism()} cores`);
  const rows = rowsFor(processes).filter(({ label }) => only === undefined || label.includes(only));
  for (const implementation of implementations) {
    const launch = { implementation, processes };
    if (rows.length > 0) await compare(launch, windows, stagedLimit, rows);
    if (only === undefined || "decode step".includes(only)) await compareSteps(launch, windows);
  }
  if (only === undefined || "model of hosts".includes(only)) {
    const chart = await modelHosts(windows, most);
    if (values.plot !== undefined) await writeFile(values.plot, chart);
  }
} catch (error) {
  console.error(`${NAME}: ${error instanceof Error ? error.message : error}`);
  process.exit(1);
}
