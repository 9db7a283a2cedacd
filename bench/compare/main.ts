// `bun run bench:compare COMMIT [--pairs 5] -- SCRIPT [ARGUMENTS]`: runs a bench of COMMIT and of the working tree in
// turn, `SCRIPT` of each one's package.json, and prints the paired ratios of every row. A row is worse when the
// interval of its ratios lies above 1.05: exit code 1. Only on a machine that does nothing else.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { readCommandLine, refuseCommand, wholeNumber } from "../../scripts/command-line.ts";
import { printTable } from "../print-table.ts";
import { formatSeconds } from "../timing.ts";
import { pairedRatio } from "./paired-ratios.ts";
import { printedTimes } from "./printed-times.ts";

const WORSE = 1.05;
const root = join(dirname(fileURLToPath(import.meta.url)), "../..");
const separator = process.argv.indexOf("--");
const [own, bench] =
  separator === -1
    ? [process.argv.slice(2), []]
    : [process.argv.slice(2, separator), process.argv.slice(separator + 1)];
const NAME = "bench:compare";
const { values, positionals } = readCommandLine(
  {
    name: NAME,
    does: "Runs a bench of a commit and of the working tree in turn, and prints the ratios of its rows.",
    options: { pairs: { type: "string", default: "5", takes: "N", help: "runs of both" } },
    operands: "COMMIT -- SCRIPT [ARGUMENTS]",
  },
  own,
);
const [commit] = positionals;
const pairs = wholeNumber(NAME, "pairs", values.pairs, 1);
if (commit === undefined || bench.length === 0) {
  refuseCommand(NAME, "give a commit, and after -- a bench, as in `main~1 -- bench:cpu --only decode`");
}

const before = mkdtempSync(join(tmpdir(), "lockstep-compare-"));
try {
  must(["git", "clone", "--quiet", root, before], root);
  must(["git", "checkout", "--quiet", must(["git", "rev-parse", commit], root).trim()], before);
  const times = { before: new Map<string, number[]>(), after: new Map<string, number[]>() };
  for (let pair = 0; pair < pairs; pair++) {
    // Who goes first alternates.
    const order = pair % 2 === 0 ? (["before", "after"] as const) : (["after", "before"] as const);
    for (const side of order) {
      const printed = must([process.execPath, "run", ...bench], side === "before" ? before : root);
      for (const [row, seconds] of printedTimes(printed)) {
        times[side].set(row, [...(times[side].get(row) ?? []), seconds]);
      }
      console.error(`pair ${pair + 1}: ${side}`);
    }
  }
  process.exitCode = report(times.before, times.after) === 0 ? 0 : 1;
} finally {
  rmSync(before, { recursive: true, force: true });
}

/** Prints the rows that both have; returns how many are worse. */
function report(old: ReadonlyMap<string, readonly number[]>, now: ReadonlyMap<string, readonly number[]>): number {
  const rows: string[][] = [];
  let worse = 0;
  for (const [row, times] of old) {
    const after = now.get(row);
    if (after?.length !== pairs || times.length !== pairs) continue;
    const { ratio, low, high } = pairedRatio(times, after);
    const isWorse = low > WORSE;
    if (isWorse) worse++;
    const interval = `${low.toFixed(2)} to ${high.toFixed(2)}`;
    rows.push([row, middle(times), middle(after), ratio.toFixed(2), interval, isWorse ? "worse" : ""]);
  }
  if (rows.length === 0) throw new Error("expected tables with times from both, but no row has them");
  printTable(["row", "before", "after", "after / before", "95 %", ""], rows);
  console.log(`${rows.length} rows, ${worse} worse`);
  return worse;
}

function middle(times: readonly number[]): string {
  return formatSeconds(times.toSorted((a, b) => a - b)[times.length >> 1] ?? Number.NaN);
}

function must([command = "", ...args]: readonly string[], cwd: string): string {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: "utf8", maxBuffer: 1 << 28 });
  if (status === 0) return stdout;
  throw new Error(
    `${command} ${args.join(" ")} in ${cwd} ended with ${status}: ${stderr.slice(-2000)}${stdout.slice(-500)}`,
  );
}
