// Ranks in processes of their own under mpirun, over both MPI implementations that Debian has; and two processes with
// several ranks each. All give the bits of shared memory.

import { afterAll, expect, setDefaultTimeout } from "bun:test";
import { MPI_IMPLEMENTATIONS } from "../mpi/mpi-launcher.ts";
import { conformanceSuite } from "./conformance-suite.ts";
import { workersOver } from "./conforming-group.ts";
import { JobSubject } from "./conforming-jobs.ts";
import { TRANSPORTS } from "./transports.ts";

setDefaultTimeout(300_000);

const ownProcesses = MPI_IMPLEMENTATIONS.map(
  (implementation) =>
    new JobSubject({ name: `${implementation}, a process per rank`, implementation, processes: (size) => size }),
);
const twoProcesses = (size: number): number => Math.min(size, 2);
const shared = new JobSubject({
  name: "openmpi, two processes",
  implementation: "openmpi",
  processes: twoProcesses,
});
const jobs = [...ownProcesses, shared];
const sharedMemory = TRANSPORTS.filter(({ name }) => name === "shared memory").map(workersOver);

conformanceSuite([...jobs, ...sharedMemory]);

afterAll(async () => {
  for (const job of jobs) {
    for (const { exitCode, timedOut, leftOver } of await job.end()) {
      expect({ exitCode, timedOut, leftOver }).toEqual({ exitCode: 0, timedOut: false, leftOver: [] });
    }
  }
});
