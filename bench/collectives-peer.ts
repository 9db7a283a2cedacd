// `bun run bench:collectives`: Lockstep's collectives beside OpenMPI's, called from C, in the same run.
//
// Sizes count what one rank brings (see openmpi/cases.ts), f32. For an all-gather "in all" counts the gathered result
// instead, as nccl-tests does; for the other collectives the two are the same. Both sides poison and fill before each
// batch of calls, check every element after it, and report the median over batches of the slowest rank; repetitions of
// the two sides alternate, and the table shows medians over them. `memcpy` copies, on all ranks at once, as many bytes
// as the collective leaves at each rank (for a reduce-scatter: as it reads). The least a round can take is timed too.
// Wrong data end the bench with exit code 1; a missed target is only marked.
import { spawnSync } from "node:child_process";
import { availableParallelism, cpus } from "node:os";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { readCommandLine, wholeNumber, wholeNumbers } from "../scripts/command-line.ts";
import { denoBinary } from "../scripts/deno-binary.ts";
import type { CollectiveName } from "./collectives-program.ts";
import { flightRecorderSeconds } from "./flight-recorder.ts";
import { type Case, median } from "./openmpi/cases.ts";
import { type LockstepTimes, timeLockstep } from "./openmpi/lockstep-side.ts";
import { buildPeer, ensureOpenMpi, timeOpenMpi } from "./openmpi/open-mpi.ts";
import { printTable } from "./print-table.ts";
import { formatSeconds } from "./timing.ts";

const KIB = 1 << 10;
const MIB = 1 << 20;
const SIDE = fileURLToPath(new URL("./openmpi/lockstep-side.ts", import.meta.url));

/** A row of the table. */
interface Row {
  readonly label: string;
  readonly timed: Case;
  /** Most that Lockstep's time may be, as a share of OpenMPI's. */
  readonly target: number | undefined;
}

/** The rows whose label contains `only`. */
function rowsFor(ranks: number, only: string | undefined): Row[] {
  const rows: Row[] = [];
  const add = (name: CollectiveName, bytes: number, target: number | undefined, label: string): void => {
    // Batches of some milliseconds: filling and checking between them leaves ranks apart and caches cold. With more
    // ranks than cores a call may take a hundred times as long.
    const [most, allBytes] = ranks > availableParallelism() ? [4_000, 128 * MIB] : [40_000, 1024 * MIB];
    const rounds = Math.max(40, Math.min(most, Math.floor(allBytes / Math.max(1, bytes))));
    if (only === undefined || label.includes(only))
      rows.push({ label, timed: { name, bytes, rounds }, target: ranks === 2 ? target : 1 });
  };
  add("barrier", 0, 0.25, "barrier");
  const gathers = [
    [8, 0.5],
    [4 * KIB, 0.1],
    [64 * KIB, 0.3],
    [MIB, 0.4],
  ] as const;
  for (const [bytes, target] of gathers) add("all-gather", bytes, target, `all-gather ${formatBytes(bytes)} a rank`);
  for (const [bytes, target] of gathers.slice(1)) {
    add("all-gather", bytes / ranks, target, `all-gather ${formatBytes(bytes)} in all`);
  }
  for (const name of ["reduce-scatter", "all-reduce"] as const) {
    for (const bytes of [64 * KIB, MIB]) add(name, bytes, 0.4, `${name} ${formatBytes(bytes)}`);
  }
  for (const name of ["broadcast", "all-to-all"] as const) {
    for (const bytes of [64 * KIB, MIB]) add(name, bytes, undefined, `${name} ${formatBytes(bytes)}`);
  }
  return rows;
}

function formatBytes(bytes: number): string {
  if (bytes >= MIB) return `${bytes / MIB} MiB`;
  return bytes >= KIB ? `${bytes / KIB} KiB` : `${bytes} B`;
}

function timeInDeno(ranks: number, cases: readonly Case[]): LockstepTimes {
  const args = ["run", "--allow-all", "--no-check", "--quiet", SIDE, String(ranks), JSON.stringify(cases)];
  const { status, stdout, stderr } = spawnSync(denoBinary(), args, {
    cwd: dirname(SIDE),
    encoding: "utf8",
    timeout: 300_000,
  });
  if (status !== 0) throw new Error(`Deno ended with exit code ${status}:\n${stderr}`);
  return JSON.parse(stdout) as LockstepTimes;
}

async function compare(ranks: number, repetitions: number, withDeno: boolean, only: string | undefined): Promise<void> {
  const rows = rowsFor(ranks, only);
  const cases = rows.map(({ timed }) => timed);
  const ours: LockstepTimes[] = [];
  const peers: { readonly times: readonly { readonly seconds: number }[] }[] = [];
  const inDeno: LockstepTimes[] = [];
  for (let repetition = 0; repetition < repetitions; repetition++) {
    ours.push(await timeLockstep(ranks, cases));
    peers.push({ times: timeOpenMpi(ranks, cases) });
    if (withDeno) inDeno.push(timeInDeno(ranks, cases));
  }
  const table = rows.map(({ label, target }, row) => {
    const at = (runs: readonly { readonly times: readonly { readonly seconds: number }[] }[]): number =>
      median(runs.map(({ times }) => times[row]?.seconds ?? Number.NaN));
    const [our, peer] = [at(ours), at(peers)];
    const copies = ours.flatMap(({ times }) => times[row]?.memcpySeconds ?? []);
    const memcpy = copies.length > 0 ? median(copies) : undefined;
    const cells = [
      label,
      formatSeconds(our),
      formatSeconds(peer),
      (our / peer).toFixed(2),
      target === undefined ? "" : `<= ${target}`,
      target === undefined ? "" : our <= target * peer ? "met" : "missed",
      memcpy === undefined ? "" : formatSeconds(memcpy),
      memcpy === undefined ? "" : (memcpy / our).toFixed(2),
    ];
    return withDeno ? [...cells, formatSeconds(at(inDeno)), (at(inDeno) / our).toFixed(2)] : cells;
  });
  const header = ["collective", "lockstep", "openmpi", "ratio", "target", "", "memcpy", "memcpy / lockstep"];
  console.log(`\n${ranks} ranks, medians of ${repetitions} repetitions, every batch's data checked on both sides:`);
  for (const [runs, where] of [
    [ours, ""],
    [inDeno, " (in Deno)"],
  ] as const) {
    const handOvers = runs.flatMap(({ handOverSeconds }) => handOverSeconds ?? []);
    if (handOvers.length === 0) continue;
    const least = formatSeconds(median(handOvers));
    console.log(`  the least a round can take, a word stored and every peer's seen: ${least}${where}`);
  }
  printTable(withDeno ? [...header, "in deno", "deno / bun"] : header, table);
}

const NAME = "bench:collectives";
const { values } = readCommandLine({
  name: NAME,
  does: "Times Lockstep's collectives beside OpenMPI's, called from C.",
  options: {
    deno: { type: "boolean", default: false, help: "Lockstep's ranks in Deno" },
    repetitions: { type: "string", default: "3", takes: "N", help: "of both sides, in turn" },
    ranks: { type: "string", default: "2,4", takes: "N,N", help: "numbers of ranks" },
    only: { type: "string", takes: "TEXT", help: "rows that contain it" },
  },
});
const repetitions = wholeNumber(NAME, "repetitions", values.repetitions, 1);
const counts = wholeNumbers(NAME, "ranks", values.ranks, 1);
try {
  const version = ensureOpenMpi();
  buildPeer();
  const processor = cpus()[0]?.model.trim() ?? "unknown processor";
  console.log(`${processor}, ${availableParallelism()} cores; OpenMPI ${version}`);
  console.log(
    `recording a collective in the flight recorder: ${(1e9 * (await flightRecorderSeconds())).toFixed(0)} ns`,
  );
  for (const ranks of counts) await compare(ranks, repetitions, values.deno, values.only);
} catch (error) {
  console.error(`bench:collectives: ${error instanceof Error ? error.message : error}`);
  process.exit(1);
}
