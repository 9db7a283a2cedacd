// The fault matrix with the ranks of every world in two processes of a job.

import { expect, setDefaultTimeout, test } from "bun:test";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { FAULTS } from "../fault-matrix.ts";
import { type MpiImplementation, mpiRun } from "./mpi-launcher.ts";

setDefaultTimeout(600_000);

const program = fileURLToPath(new URL("./run-faults-in-job.ts", import.meta.url));

// MPICH waits less kindly on busy cores: cases that call off what is on its way.
test.each<[MpiImplementation, string]>([
  ["openmpi", ""],
  ["mpich", "14. "],
])("%s, cases %p", async (implementation, filter) => {
  const { exitCode, timedOut, leftOver, ranks } = await mpiRun({
    implementation,
    processes: 2,
    command: [process.execPath, program, filter],
    deadlineMs: 500_000,
  });
  const lines = ranks[0]?.stdout.split("\n") ?? [];
  const cases = FAULTS.filter(({ name }) => name.includes(filter)).flatMap(({ sizes }) => sizes);
  const passed = lines.filter((line) => line.startsWith("ok "));
  expect(lines.filter((line) => line.startsWith("FAIL "))).toEqual([]);
  expect(passed).toHaveLength(cases.length);
  expect(lines).toContain(`${cases.length} passed, 0 failed`);
  expect({ exitCode, timedOut, leftOver }).toEqual({ exitCode: 0, timedOut: false, leftOver: [] });
});
