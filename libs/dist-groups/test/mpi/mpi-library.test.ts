import { describe, expect, setDefaultTimeout, test } from "bun:test";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { denoBinary } from "../../../../scripts/deno-binary.ts";
import { MPI_IMPLEMENTATIONS, mpiRun } from "./mpi-launcher.ts";

setDefaultTimeout(180_000);
const DEADLINE_MS = 150_000;

const RUNTIMES = { bun: [process.execPath], deno: [denoBinary(), "run", "--allow-all", "--no-check", "--quiet"] };

function program(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}

describe.each(MPI_IMPLEMENTATIONS)("messages over %s", (implementation) => {
  test.each([
    ["bun", 2],
    ["bun", 3],
    ["bun", 4],
    ["deno", 2],
    ["deno", 3],
    ["deno", 4],
  ] as const)("main threads and workers at once, in %s, %d processes", async (runtime, processes) => {
    const outcome = await mpiRun({
      implementation,
      processes,
      command: [...RUNTIMES[runtime], program("exchange-program.ts")],
      deadlineMs: DEADLINE_MS,
    });
    expect(outcome).toMatchObject({ exitCode: 0, timedOut: false, leftOver: [] });
    // 3 threads, 3 rounds, 5 sizes, from every process.
    const messages = 3 * 3 * 5 * processes;
    for (const [rank, { stdout, stderr }] of outcome.ranks.entries()) {
      expect(stderr).toBe("");
      const [, count, told = "{}"] = /^exchanged (\d+) (.*)$/m.exec(stdout) ?? [];
      expect(Number(count)).toBe(messages);
      expect(JSON.parse(told)).toMatchObject({ rank, size: processes, abi: implementation });
    }
  });
});
