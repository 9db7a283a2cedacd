// Runs the fault matrix in the processes of a job: `mpirun -n 2 bun libs/dist-groups/test/mpi/run-faults-in-job.ts
// [FILTER]`. Exit code 1 when a case fails.

import process from "node:process";
import { joinJob } from "../../src/index.ts";
import { FAULTS } from "../fault-matrix.ts";
import { runCases } from "../run-cases.ts";

await joinJob();
process.exit((await runCases(FAULTS, process.argv[2] ?? "")) === 0 ? 0 : 1);
