// Whether MPI has ended in this process, by whatever thread: MPI itself does not know where it was left without
// MPI_Finalize (leave-mpich.ts).

import type { DynamicLinker } from "./dynamic-linker.ts";

/** Notes that MPI has ended in this process, for good. */
export function noteEnd(linker: DynamicLinker): void {
  linker.setDefault(noteOf(linker), "yes");
}

/** Whether `noteEnd` was called in this process. */
export function hasEnded(linker: DynamicLinker): boolean {
  return linker.variable(noteOf(linker)) !== undefined;
}

/** A variable of C's environment, since all threads see that. Child processes may inherit it, so it has the id. */
function noteOf(linker: DynamicLinker): string {
  return `LOCKSTEP_MPI_ENDED_IN_${linker.processId()}`;
}
