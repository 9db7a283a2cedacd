// OpenMPI's side of the bench: installs it where it may, builds mpi-peer.c with mpicc, runs it with mpirun.
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Case, CaseTime } from "./cases.ts";

const PACKAGES = ["libopenmpi-dev", "openmpi-bin", "gcc"];
const ADVICE = "Install OpenMPI with its compiler wrapper: `apt-get install libopenmpi-dev openmpi-bin gcc`";
const SOURCE = fileURLToPath(new URL("./mpi-peer.c", import.meta.url));
const BINARY = join(dirname(SOURCE), "build/mpi-peer");

/**
 * Returns the version of OpenMPI. Installs it where it is missing, on Debian and its derivatives as root; else says
 * what to do.
 */
export function ensureOpenMpi(): string {
  const present = version();
  if (present !== undefined) return present;
  if (process.platform !== "linux" || !existsSync("/etc/debian_version") || process.getuid?.() !== 0) {
    throw new Error(`mpicc or mpirun is missing, and installing them takes Debian and root. ${ADVICE}.`);
  }
  console.error(`installing ${PACKAGES.join(", ")}`);
  succeed(aptGet(["update", "-qq"]), "apt-get update", ADVICE);
  succeed(aptGet(["install", "-y", "-qq", "--no-install-recommends", ...PACKAGES]), "apt-get install", ADVICE);
  const installed = version();
  if (installed === undefined)
    throw new Error(`${PACKAGES.join(", ")} were installed, but mpicc is missing. ${ADVICE}.`);
  return installed;
}

function version(): string | undefined {
  if (spawnSync("mpicc", ["--version"]).status !== 0) return undefined;
  const { status, stdout } = spawnSync("mpirun", ["--version"], { encoding: "utf8" });
  return status === 0 ? (/Open MPI\) ([\d.]+)/.exec(stdout)?.[1] ?? undefined) : undefined;
}

function aptGet(commandLine: readonly string[]): SpawnSyncReturns<string> {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  return spawnSync("apt-get", commandLine, { env, encoding: "utf8", timeout: 600_000 });
}

function succeed({ status, stderr, error }: SpawnSyncReturns<string>, what: string, advice: string): void {
  if (status === 0) return;
  throw new Error(`${what} failed (${error?.message ?? `exit code ${status}`}):\n${stderr ?? ""}\n${advice}`);
}

/** Builds mpi-peer.c when it is newer than its binary. */
export function buildPeer(): void {
  if (existsSync(BINARY) && statSync(BINARY).mtimeMs > statSync(SOURCE).mtimeMs) return;
  mkdirSync(dirname(BINARY), { recursive: true });
  const built = spawnSync("mpicc", ["-O3", "-march=native", "-Wall", "-o", BINARY, SOURCE], { encoding: "utf8" });
  succeed(built, "mpicc", ADVICE);
}

/** Times cases over `ranks` processes. Throws when data are wrong, with what the peer said. */
export function timeOpenMpi(ranks: number, cases: readonly Case[]): CaseTime[] {
  const arguments_ = cases.flatMap(({ name, bytes, rounds }) => [name, String(bytes), String(rounds)]);
  const launcher = ["--oversubscribe", "-np", String(ranks)];
  // OpenMPI refuses root without this.
  if (process.getuid?.() === 0) launcher.unshift("--allow-run-as-root");
  const ran = spawnSync("mpirun", [...launcher, BINARY, ...arguments_], { encoding: "utf8", timeout: 300_000 });
  succeed(ran, `mpirun ${launcher.join(" ")} mpi-peer`, "");
  return JSON.parse(ran.stdout) as CaseTime[];
}
