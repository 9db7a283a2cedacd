// Which processes run in network namespaces, and their end.
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { NetworkError } from "./network-error.ts";

/** A running process. */
export interface HostProcess {
  readonly pid: number;
  /** Its arguments, with spaces between them. */
  readonly command: string;
}

/** The processes that run in namespaces, which are given as `/proc/PID/ns/net` has them (`net:[NUMBER]`). */
export function processesIn(namespaceLinks: readonly string[]): HostProcess[] {
  const found: HostProcess[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      // A process that has ended and waits for its parent has no such link.
      if (!namespaceLinks.includes(readlinkSync(`/proc/${name}/ns/net`))) continue;
      const command = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ").trim();
      found.push({ pid: Number(name), command });
    } catch {
      // It ended while it was looked at.
    }
  }
  return found;
}

/**
 * Kills all processes in the namespaces, and waits until they are gone.
 * @throws NetworkError when some stay for 10 s
 */
export async function killProcesses(namespaceLinks: readonly string[]): Promise<void> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const left = processesIn(namespaceLinks);
    if (left.length === 0) return;
    for (const { pid } of left) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has just ended.
      }
    }
    if (performance.now() > deadline) {
      throw new NetworkError(`processes outlive SIGKILL for 10 s: ${left.map(({ command }) => command).join("; ")}`);
    }
    await Bun.sleep(5);
  }
}
