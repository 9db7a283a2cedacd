import type { MpiAbi } from "./abi.ts";

/** A variable that MPICH and what has its layout export, and libraries of the standard layout need not. */
export const MPICH_SYMBOL = "MPI_UNWEIGHTED";

/** MPICH since 3.1 and what shares its layout (Intel MPI, MVAPICH, Cray MPICH): a handle is an `int`. Source: mpi.h. */
export const MPICH: MpiAbi = {
  name: "mpich",
  handle: "i32",
  world: 0x44000000,
  self: 0x44000001,
  byte: 0x4c00010d,
  errorsReturn: 0x54000001,
  anySource: -2,
  tagUpperBound: 0x64400001,
  threadMultiple: 3,
  statusBytes: 20,
  sourceOffset: 8,
  tagOffset: 12,
};
