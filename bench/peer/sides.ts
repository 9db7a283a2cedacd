// Runs a side of the bench in a process of its own.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Job, WorkTime } from "./works.ts";

const SCRIPTS = { lockstep: "./lockstep-side.ts", "llama.cpp": "./llama-cpp-side.ts" } as const;

/** @throws Error with what the process said when it failed */
export function runSide(side: keyof typeof SCRIPTS, job: Job): WorkTime[] {
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    [fileURLToPath(new URL(SCRIPTS[side], import.meta.url))],
    { input: JSON.stringify(job), encoding: "utf8", timeout: 3_600_000, maxBuffer: 1 << 28 },
  );
  if (status !== 0) throw new Error(`${side} ended with ${signal ?? `exit code ${status}`}:\n${stderr}`);
  return JSON.parse(stdout) as WorkTime[];
}
