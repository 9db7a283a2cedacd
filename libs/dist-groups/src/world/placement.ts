import { launchedProcesses, processesHere } from "../job/launched-processes.ts";
import { processControlBytes } from "../job/process-memory.ts";
import { ranksByProcess } from "../job/process-part.ts";
import { controlBytes } from "../site/memory-layout.ts";
import { dealRanks } from "../transport/mpi/tags.ts";

/** Where the ranks of a world would run. */
export interface WorldPlacement {
  /** Ranks of each process, this one's first: as of `World.processes`. */
  readonly processes: readonly (readonly number[])[];
  /** Number of machines that the processes are on. */
  readonly machines: number;
  /** Bytes of the memory of a process, at least, that are neither the host's heap nor that of a rank. */
  readonly controlBytes: number;
}

/**
 * Where the ranks of a world of `size` would run if this process opened it now: in this process, or in those that an
 * MPI launcher started together with it.
 */
export function placementOf(size: number): WorldPlacement {
  const launched = launchedProcesses();
  if (launched === 1) {
    const all = Array.from({ length: size }, (_, rank) => rank);
    return { processes: [all], machines: 1, controlBytes: controlBytes(size) };
  }
  const processes = ranksByProcess(dealRanks(size, launched));
  const most = Math.max(...processes.map((ranks) => ranks.length));
  const machines = Math.ceil(processes.length / processesHere(launched));
  return { processes, machines, controlBytes: processControlBytes(size, most) };
}
