import { Follower } from "./follower.ts";
import { openJob } from "./job.ts";
import { launchedProcesses } from "./launched-processes.ts";
import { leadJob } from "./leader.ts";

let following: Promise<never> | undefined;

/**
 * To be called first in a program that may be started by `mpirun`. In a process other than the first it does not
 * return: the process runs ranks of the worlds that the first one opens, and ends with it. In the first process, and
 * where nobody started several, it returns at once.
 *
 * `openWorld` calls it too; what a program does before that, every process does.
 *
 * The first process tells the others twice a second that it lives, whenever its event loop turns. One that has heard
 * nothing for five minutes, or for as many milliseconds as `LOCKSTEP_MPI_SILENCE_MS` of the environment says, says so
 * on stderr and ends the job with exit code 1: no process outlives a first one that was killed or stopped, also where
 * the launcher lets it.
 * @throws MpiNotFound, MpiUnsuitable when a launcher started this process and MPI cannot be used
 */
export async function joinJob(): Promise<void> {
  if (launchedProcesses() === 1) return;
  const job = openJob();
  if (job.process === 0) return leadJob();
  following ??= new Promise<never>(() => {
    new Follower(job);
  });
  return following;
}
