// Runs a side of the bench in a process of its own.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Job, WorkTime } from "./works.ts";

const SCRIPTS = { lockstep: "./lockstep-side.ts", "llama.cpp": "./llama-cpp-side.ts" } as const;

/** Runs a command with real-time priority, where it may. */
export const REAL_TIME = ["chrt", "--rr", "1"] as const;

/**
 * Whether llama.cpp's threads can be given real-time priority. It makes new threads for every token, which some kernels
 * (Linux 6.18 in a virtual machine) start on the core of the thread that made them, where they then wait for each other
 * by spinning: 85 tokens a second on two threads instead of 1,000. With real-time priority each gets a core at once.
 */
export function hasRealTime(): boolean {
  const [command, ...args] = REAL_TIME;
  return process.platform === "linux" && spawnSync(command, [...args, "true"]).status === 0;
}

/**
 * @param isRealTime with real-time priority
 * @throws Error with what the process said when it failed
 */
export function runSide(side: keyof typeof SCRIPTS, job: Job, isRealTime = false): WorkTime[] {
  const script = fileURLToPath(new URL(SCRIPTS[side], import.meta.url));
  const [command = "", ...args] = [...(isRealTime ? REAL_TIME : []), process.execPath, script];
  const { status, signal, stdout, stderr } = spawnSync(command, args, {
    input: JSON.stringify(job),
    encoding: "utf8",
    timeout: 3_600_000,
    maxBuffer: 1 << 28,
  });
  if (status !== 0) throw new Error(`${side} ended with ${signal ?? `exit code ${status}`}:\n${stderr}`);
  return JSON.parse(stdout) as WorkTime[];
}
