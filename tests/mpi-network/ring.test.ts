// Ranks in Bun and Deno over hosts, from the start of MPI to its end.
import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { MPI_IMPLEMENTATIONS } from "../../libs/dist-groups/test/mpi/mpi-launcher.ts";
import { denoBinary } from "../../scripts/deno-binary.ts";
import { startJob } from "./job.ts";
import { openNetwork } from "./network.ts";

setDefaultTimeout(300_000);

const program = fileURLToPath(new URL("../../libs/dist-groups/test/mpi/ring-program.ts", import.meta.url));
const RUNTIMES = { bun: [process.execPath], deno: [denoBinary(), "run", "--no-check", "--quiet", "--allow-all"] };
/** MPICH 4.0's own MPI_Finalize waits for ever in about every second job of this kind. */
const JOBS = { openmpi: 1, mpich: 4 };

const cases = MPI_IMPLEMENTATIONS.flatMap((implementation) =>
  (["bun", "deno"] as const).map((runtime) => ({ implementation, runtime })),
);
test.each(cases)(
  "every job of $implementation ends on every rank, in $runtime",
  async ({ implementation, runtime }) => {
    await using network = await openNetwork({ hosts: 2 });
    for (let job = 0; job < JOBS[implementation]; job++) {
      const { ended } = startJob(network, {
        implementation,
        processesPerHost: 2,
        command: [...RUNTIMES[runtime], program],
        deadlineMs: 60_000,
      });
      const { exitCode, stdout, stderr, left } = await ended;
      expect([exitCode, stderr, left]).toEqual([0, "", []]);
      expect(stdout.trim().split("\n").sort()).toEqual(
        [3, 0, 1, 2].map((from, rank) => `rank ${rank} heard from ${from}, then MpiUnsuitable and MpiUnsuitable`),
      );
    }
  },
);
