import process from "node:process";
import { fileURLToPath } from "node:url";
import type { MpiImplementation } from "../../libs/dist-groups/test/mpi/mpi-launcher.ts";
import { type JobResult, startJob } from "../mpi-network/job.ts";
import { openNetwork } from "../mpi-network/network.ts";

const DEADLINE_MS = 240_000;
const demo = fileURLToPath(new URL("../../apps/demo/src/main.ts", import.meta.url));

/** A run of the demo over two hosts with one rank each. */
export interface TwoHostRun extends Pick<JobResult, "exitCode" | "left" | "stderr"> {
  /** What a person would see: the command, what it printed, and what crossed the network. */
  readonly lines: readonly string[];
  readonly stdout: string;
  /** Bytes that each host sent over its link, headers included. */
  readonly sentBytes: readonly number[];
}

/** Runs the demo on two hosts, whose network takes `delayMs` one way. */
export async function runOverTwoHosts(
  implementation: MpiImplementation,
  delayMs: number,
  options: readonly string[] = ["--dcp", "2", "--max-tokens", "48"],
): Promise<TwoHostRun> {
  await using network = await openNetwork({ hosts: 2, delayMs });
  const command = [process.execPath, demo, "--backend", "wasm", ...options];
  const { ended } = startJob(network, { implementation, command, deadlineMs: DEADLINE_MS });
  const { exitCode, stdout, stderr, left } = await ended;
  const sentBytes = network.hosts.map((_, host) => network.traffic(host).sentBytes);
  const hosts = network.hosts.map(({ name }) => name);
  const lines = [
    `$ mpirun -n 2 --host ${hosts.join(",")} bun apps/demo/src/main.ts ${options.join(" ")}`,
    ...stdout.trimEnd().split("\n"),
    "",
    `round trip ${2 * delayMs} ms; sent by ${hosts.map((name, host) => `${name} ${mebi(sentBytes[host])}`).join(", by ")}`,
  ];
  return { exitCode, stdout, stderr, left, lines, sentBytes };
}

function mebi(bytes = 0): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
