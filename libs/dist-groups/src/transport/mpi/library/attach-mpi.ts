import { MpiUnsuitable } from "../../../errors/mpi-errors.ts";
import { AttachedMpi } from "./attached-mpi.ts";
import { openDynamicLinker } from "./dynamic-linker.ts";
import { hasEnded } from "./ended.ts";
import { abiNamed } from "./find-library.ts";
import type { Mpi, MpiHandles } from "./mpi.ts";
import { mpiFunctions } from "./mpi-functions.ts";
import { nativeCalls } from "./native-calls.ts";

/**
 * The calling thread's own access to the MPI that its process started.
 * @param handles of `initMpi` in the same process
 * @throws MpiUnsuitable where native code cannot be called, or MPI is not running in this process
 */
export function attachMpi(handles: MpiHandles): Mpi {
  const native = nativeCalls();
  const linker = openDynamicLinker(native);
  const abi = abiNamed(linker, handles.library, handles.abi);
  const functions = mpiFunctions(native, handles.library, abi.handle);
  const attached = new AttachedMpi(native, functions, abi, handles);
  const { area } = attached;
  const is = (operation: "MPI_Initialized" | "MPI_Finalized"): boolean =>
    functions[operation](area.flagAddress) === 0 && area.flag;
  if (!is("MPI_Initialized") || is("MPI_Finalized") || hasEnded(linker)) {
    throw new MpiUnsuitable("attachMpi was called in a process where MPI does not run: initMpi has to come before it");
  }
  return attached;
}
