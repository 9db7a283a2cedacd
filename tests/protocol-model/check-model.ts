// `bun run check:model [--thorough]`: checks the model of the sequence-word protocol (sequence-words.pml) with Spin,
// then shows that the check would notice: each mutation of the protocol has to be caught.
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const MODEL = fileURLToPath(new URL("./sequence-words.pml", import.meta.url));
const PACKAGES = ["spin", "gcc", "libc6-dev"];
const ADVICE = "Install Spin (https://spinroot.com) and a C compiler: `apt-get install spin gcc libc6-dev`";
/** Two checks run at once. */
const PARALLEL = 2;
const MEGABYTES_PER_CHECK = 450;
/** Longer than any path. A search that reaches it says so and counts as incomplete. */
const LONGEST_PATH = 20_000;
const LONGEST_CHECK_MS = 300_000;

/** A rank that waits for ever; a write to a control block of another generation; a read of wrong data. */
type Flaw = "deadlock" | "stale write" | "bad read";

/** Bounds of the model and what is expected of it. */
interface Check {
  readonly title: string;
  readonly defines: Readonly<Record<string, number>>;
  /**
   * Size of a bitstate search's table, as a power of two. It visits part of the states: hash collisions prune. Without
   * it every state is visited.
   */
  readonly bitstate?: number;
  /** A mutation and how it has to be caught. */
  readonly mutation?: { readonly define: string; readonly caughtBy: Flaw };
}

const MUTATIONS: readonly Check[] = [
  {
    title: "without the sleeper's recheck",
    defines: { RANKS: 2 },
    mutation: { define: "NO_RECHECK", caughtBy: "deadlock" },
  },
  {
    title: "without the acknowledgement",
    defines: { RANKS: 2 },
    mutation: { define: "NO_ACKNOWLEDGEMENT", caughtBy: "bad read" },
  },
  {
    title: "without the generation test",
    defines: { RANKS: 2, GENERATIONS: 3 },
    mutation: { define: "NO_GENERATION_TEST", caughtBy: "stale write" },
  },
  {
    title: "without the look at the abort word before success",
    defines: { RANKS: 2, FAULTS: 1 },
    mutation: { define: "NO_FINAL_ABORT_CHECK", caughtBy: "bad read" },
  },
  {
    title: "without slices of parks in an aborted group",
    defines: { RANKS: 2, FAULTS: 1 },
    mutation: { define: "NO_SLICES", caughtBy: "deadlock" },
  },
];

// The longest first, so that two at a time finish together.
const PROOFS: readonly Check[] = [
  { title: "healthy", defines: { RANKS: 4, COLLECTIVES: 1, KINDS: 2 } },
  { title: "faults", defines: { RANKS: 3, COLLECTIVES: 1, KINDS: 2, FAULTS: 1 } },
  { title: "generations", defines: { RANKS: 3, COLLECTIVES: 1, KINDS: 1, GENERATIONS: 3 } },
  { title: "faults", defines: { RANKS: 4, COLLECTIVES: 1, KINDS: 1, FAULTS: 1 }, bitstate: 20 },
  { title: "generations", defines: { RANKS: 4, COLLECTIVES: 1, KINDS: 1, GENERATIONS: 3 }, bitstate: 20 },
  { title: "healthy", defines: { RANKS: 4, COLLECTIVES: 2, KINDS: 3 }, bitstate: 20 },
  { title: "healthy", defines: { RANKS: 3, COLLECTIVES: 2, KINDS: 3 } },
  { title: "faults", defines: { RANKS: 2, COLLECTIVES: 1, KINDS: 3, FAULTS: 2 } },
  { title: "faults", defines: { RANKS: 2, COLLECTIVES: 2, KINDS: 3, FAULTS: 1 } },
  { title: "generations", defines: { RANKS: 2, COLLECTIVES: 2, KINDS: 2, GENERATIONS: 3 } },
  { title: "generations and faults", defines: { RANKS: 2, COLLECTIVES: 1, KINDS: 3, GENERATIONS: 3, FAULTS: 1 } },
  { title: "healthy", defines: { RANKS: 2, COLLECTIVES: 4, KINDS: 3 } },
];

/** Wider bounds, for `--thorough`: minutes. */
const THOROUGH: readonly Check[] = [
  { title: "healthy", defines: { RANKS: 4, COLLECTIVES: 2, KINDS: 1 } },
  { title: "faults", defines: { RANKS: 4, COLLECTIVES: 1, KINDS: 2, FAULTS: 1 }, bitstate: 25 },
  { title: "generations", defines: { RANKS: 4, COLLECTIVES: 1, KINDS: 2, GENERATIONS: 3 }, bitstate: 25 },
  { title: "healthy", defines: { RANKS: 4, COLLECTIVES: 2, KINDS: 3 }, bitstate: 25 },
  { title: "faults", defines: { RANKS: 2, COLLECTIVES: 2, KINDS: 3, FAULTS: 2 } },
  { title: "generations", defines: { RANKS: 2, COLLECTIVES: 2, KINDS: 3, GENERATIONS: 3 } },
];

/** What a search found. */
interface Outcome {
  readonly found: Flaw | "nothing" | "incomplete";
  readonly states: number;
  readonly seconds: number;
  /** What Spin said, when it is not "nothing". */
  readonly report: string;
}

/**
 * Installs Spin and a C compiler where they are missing, on Debian and its derivatives as root. Else says what to do.
 */
export function ensureSpin(): void {
  if (isPresent()) return;
  const isDebian = process.platform === "linux" && existsSync("/etc/debian_version");
  if (!isDebian || process.getuid?.() !== 0) {
    throw new Error(`spin or cc is missing, and installing them takes Debian and root. ${ADVICE}.`);
  }
  console.error(`installing ${PACKAGES.join(", ")}`);
  for (const commandLine of [
    ["update", "-qq"],
    ["install", "-y", "-qq", "--no-install-recommends", ...PACKAGES],
  ]) {
    const { status, stderr } = spawnSync("apt-get", commandLine, {
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
      stdio: ["ignore", "ignore", "pipe"],
      encoding: "utf8",
      timeout: 600_000,
    });
    if (status !== 0) throw new Error(`apt-get ${commandLine.join(" ")} failed:\n${stderr}\n${ADVICE}.`);
  }
  if (!isPresent()) throw new Error(`${PACKAGES.join(", ")} were installed, but spin or cc is missing. ${ADVICE}.`);
}

function isPresent(): boolean {
  return ["spin", "cc"].every((tool) => spawnSync(tool, [tool === "spin" ? "-V" : "--version"]).status === 0);
}

/** Runs a program to its end and returns what it printed. Rejects when it cannot start, fails, or takes too long. */
function output(folder: string, command: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: folder, timeout: LONGEST_CHECK_MS, killSignal: "SIGKILL" });
    let text = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8");
      stream.on("data", (part: string) => {
        text += part;
      });
    }
    child.on("error", reject);
    child.on("close", (status, signal) => {
      if (status === 0) resolve(text);
      else reject(new Error(`${command} ${args.join(" ")} ended with ${signal ?? `exit code ${status}`}:\n${text}`));
    });
  });
}

async function search(check: Check): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), "protocol-model-"));
  try {
    const defines = Object.entries(check.defines).map(([name, value]) => `-D${name}=${value}`);
    if (check.mutation !== undefined) defines.push(`-D${check.mutation.define}`);
    await output(folder, "spin", ["-a", ...defines, MODEL]);
    const storage = check.bitstate === undefined ? ["-DCOLLAPSE", `-DMEMLIM=${MEGABYTES_PER_CHECK}`] : ["-DBITSTATE"];
    // A mutation is caught within a moment: optimising would take longer.
    const optimisation = check.mutation === undefined ? "-O2" : "-O0";
    await output(folder, "cc", ["-w", optimisation, "-DSAFETY", "-DNOFAIR", ...storage, "-o", "pan", "pan.c"]);
    const table = check.bitstate === undefined ? [] : [`-w${check.bitstate}`, "-k2"];
    return outcomeOf(await output(folder, "./pan", ["-n", `-m${LONGEST_PATH}`, ...table]));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function outcomeOf(report: string): Outcome {
  const number = (pattern: RegExp): number => Number(pattern.exec(report)?.[1] ?? Number.NaN);
  const errors = number(/errors: (\d+)/);
  const isWhole = !/Search not completed|max search depth too small|reached -DMEMLIM|out of memory/.test(report);
  let found: Outcome["found"] = "incomplete";
  if (/^pan:\d+: invalid end state/m.test(report)) found = "deadlock";
  else if (/^pan:\d+: assertion violated.*\bowner\b/m.test(report)) found = "stale write";
  else if (/^pan:\d+: assertion violated/m.test(report)) found = "bad read";
  else if (errors === 0 && isWhole) found = "nothing";
  return {
    found,
    states: number(/([\d.e+]+) states, stored/),
    seconds: number(/elapsed time ([\d.e+-]+) seconds/),
    report,
  };
}

function describe(check: Check): string {
  const {
    RANKS: ranks,
    COLLECTIVES: collectives = 2,
    KINDS: kinds = 3,
    GENERATIONS: generations,
    FAULTS,
  } = check.defines;
  const parts = [
    `${ranks} ranks`,
    `${collectives} ${collectives === 1 ? "collective" : "collectives"} of ${kinds} ${kinds === 1 ? "kind" : "kinds"}`,
  ];
  if (generations !== undefined) parts.push(`${generations} generations`);
  if (FAULTS !== undefined) parts.push(`${FAULTS} ${FAULTS === 1 ? "fault" : "faults"} anywhere`);
  return `${check.title}: ${parts.join(", ")}`;
}

/** Runs one check, prints a line about it and returns whether it came out as it must. */
async function run(check: Check): Promise<boolean> {
  const { found, states, seconds, report } = await search(check);
  const effort = `${states.toLocaleString("en-US")} states, ${seconds.toFixed(1)} s`;
  if (check.mutation !== undefined) {
    const isCaught = found === check.mutation.caughtBy;
    const verdict = isCaught ? `caught (${found})` : `NOT CAUGHT: expected ${check.mutation.caughtBy}, found ${found}`;
    console.log(`${isCaught ? "ok  " : "FAIL"} ${describe(check)} [-D${check.mutation.define}]: ${verdict}`);
    if (!isCaught) console.log(report);
    return isCaught;
  }
  const how = check.bitstate === undefined ? "exhaustive" : "in part (bitstate)";
  console.log(`${found === "nothing" ? "ok  " : "FAIL"} ${describe(check)}: ${how}, ${effort}`);
  if (found !== "nothing") console.log(report);
  return found === "nothing";
}

/** Runs every proof and every mutation, `thorough`ly with wider bounds. Returns how many came out wrong. */
export async function checkModel(thorough = false): Promise<number> {
  ensureSpin();
  const proofs = thorough ? [...THOROUGH, ...PROOFS] : PROOFS;
  const waiting = [...proofs, ...MUTATIONS];
  let failures = 0;
  const work = async (): Promise<void> => {
    for (let check = waiting.shift(); check !== undefined; check = waiting.shift()) {
      if (!(await run(check))) failures++;
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, work));
  const exhaustive = proofs.filter(({ bitstate }) => bitstate === undefined).length;
  console.log(
    failures === 0
      ? `model check: ${exhaustive} bounds searched exhaustively and ${proofs.length - exhaustive} in part, no error; ` +
          `all ${MUTATIONS.length} mutations caught`
      : `model check: ${failures} of ${proofs.length + MUTATIONS.length} checks FAILED`,
  );
  return failures;
}

if (import.meta.main) process.exitCode = (await checkModel(process.argv.includes("--thorough"))) === 0 ? 0 : 1;
