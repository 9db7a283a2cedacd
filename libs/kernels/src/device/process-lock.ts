import { builtinModule } from "@lockstep/tensor";

type Files = typeof import("node:fs");

const POLL_MS = 2;

/**
 * Runs `run` while no other thread of this process runs something under the same name. Workers share no memory that a
 * library could count on, so a file that only one of them can create stands for the lock; one that a thread left behind
 * when it ended is taken over after `staleMs`, which `run` must not last longer than.
 * In a browser, which has no process, it just runs.
 */
export async function withProcessLock<T>(name: string, run: () => Promise<T>, staleMs = 60_000): Promise<T> {
  const files = builtinModule<Files>("node:fs");
  const pid = builtinModule<{ readonly pid: number }>("node:process")?.pid;
  const folder = builtinModule<typeof import("node:os")>("node:os")?.tmpdir();
  if (files === undefined || pid === undefined || folder === undefined) return run();
  const file = `${folder}/lockstep-${name}-${pid}.lock`;
  while (!take(files, file)) {
    if (ageOf(files, file) > staleMs) files.rmSync(file, { force: true });
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  try {
    return await run();
  } finally {
    files.rmSync(file, { force: true });
  }
}

function take(files: Files, file: string): boolean {
  try {
    files.closeSync(files.openSync(file, "wx"));
    return true;
  } catch (error) {
    if ((error as { code?: unknown }).code === "EEXIST") return false;
    throw error;
  }
}

function ageOf(files: Files, file: string): number {
  try {
    return Date.now() - files.statSync(file).mtimeMs;
  } catch {
    return 0;
  }
}
