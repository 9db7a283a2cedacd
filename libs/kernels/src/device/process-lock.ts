import { closeSync, openSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const POLL_MS = 2;

/**
 * Runs `run` while no other thread of this process runs something under the same name. Workers share no memory that a
 * library could count on, so a file that only one of them can create stands for the lock; one that a thread left behind
 * when it ended is taken over after `staleMs`, which `run` must not last longer than.
 */
export async function withProcessLock<T>(name: string, run: () => Promise<T>, staleMs = 60_000): Promise<T> {
  const file = join(tmpdir(), `lockstep-${name}-${process.pid}.lock`);
  while (!take(file)) {
    if (ageOf(file) > staleMs) rmSync(file, { force: true });
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  try {
    return await run();
  } finally {
    rmSync(file, { force: true });
  }
}

function take(file: string): boolean {
  try {
    closeSync(openSync(file, "wx"));
    return true;
  } catch (error) {
    if ((error as { code?: unknown }).code === "EEXIST") return false;
    throw error;
  }
}

function ageOf(file: string): number {
  try {
    return Date.now() - statSync(file).mtimeMs;
  } catch {
    return 0;
  }
}
