import { MpiUnsuitable } from "../../../errors/mpi-errors.ts";
import type { MpiAbi } from "./abi.ts";

/** A variable that every OpenMPI has and no other MPI. */
export const OPENMPI_SYMBOL = "ompi_mpi_comm_world";

/**
 * OpenMPI 3 to 5: a handle is the address of a variable of the library. Source: its mpi.h.
 * @param address of a variable by its name, 0 when there is none
 */
export function openmpi(address: (symbol: string) => number): MpiAbi {
  const handle = (symbol: string): number => {
    const found = address(symbol);
    if (found === 0) throw new MpiUnsuitable(`the library has no ${symbol}, which every OpenMPI has: install it anew`);
    return found;
  };
  return {
    name: "openmpi",
    handle: "usize",
    world: handle(OPENMPI_SYMBOL),
    self: handle("ompi_mpi_comm_self"),
    byte: handle("ompi_mpi_byte"),
    errorsReturn: handle("ompi_mpi_errors_return"),
    anySource: -1,
    tagUpperBound: 0,
    threadMultiple: 3,
    statusBytes: 24,
    sourceOffset: 0,
    tagOffset: 4,
  };
}
