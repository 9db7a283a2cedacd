// How a process of MPICH before 4.2 leaves a job that spans several hosts.
//
// Its MPI_Finalize often waits for ever there: over UCX's TCP a process that has closed its connections waits for the
// launcher's barrier, and no longer answers those that still close theirs. MPICH mended that in 4.2, by
// https://github.com/pmodels/mpich/pull/6596; Debian 12 has 4.0.2. When all processes have said goodbye to each other,
// nothing is left to finalize but the launcher, which takes a process that ends without a word for one that failed. So
// the process says the word itself, in the launcher's protocol (PMI-1), and does without MPI_Finalize.

import type { DynamicLinker } from "./dynamic-linker.ts";
import type { MpiHandles } from "./mpi.ts";

/** Number of the file that the launcher listens at. */
const LAUNCHER_FILE = "PMI_FD";
/** How many processes of the job the launcher started on this host. */
const PROCESSES_HERE = "MPI_LOCALNRANKS";

/**
 * Tells MPICH's launcher that this process is through, where MPI_Finalize may wait for ever; every process has to have
 * said goodbye. Returns whether it did: then MPI_Finalize is not to be called. Returns false, and does nothing, for
 * other MPIs, for MPICH since 4.2, on a single host, and where the launcher does not answer.
 */
export function leaveMpich(linker: Pick<DynamicLinker, "variable" | "ask">, handles: MpiHandles): boolean {
  const file = linker.variable(LAUNCHER_FILE);
  if (file === undefined || !/^\d+$/.test(file) || !waitsForEver(handles)) return false;
  if (linker.variable(PROCESSES_HERE) === String(handles.size)) return false;
  return linker.ask(Number(file), "cmd=finalize\n").startsWith("cmd=finalize_ack");
}

/** Whether the library is MPICH before 4.2. It may be called through the standard layout. */
export function waitsForEver({ version }: Pick<MpiHandles, "version">): boolean {
  const [, major, minor] = /MPICH Version:\s*(\d+)\.(\d+)/.exec(version) ?? [];
  if (major === undefined || minor === undefined) return false;
  return Number(major) < 4 || (Number(major) === 4 && Number(minor) < 2);
}
