// What differs between MPI libraries: handles, constants and the layout of a status. openmpi.ts, mpich.ts and
// standard-abi.ts each describe one.

import type { MpiAbiName } from "./mpi.ts";
import type { NativeType } from "./native-calls.ts";

/** Handles, constants and layouts of an MPI library, as numbers. */
export interface MpiAbi {
  readonly name: MpiAbiName;
  /** How handles are passed: as addresses, or as C's `int`. */
  readonly handle: NativeType;
  /** MPI_COMM_WORLD */
  readonly world: number;
  /** MPI_COMM_SELF */
  readonly self: number;
  /** MPI_BYTE */
  readonly byte: number;
  /** MPI_ERRORS_RETURN */
  readonly errorsReturn: number;
  /** MPI_ANY_SOURCE */
  readonly anySource: number;
  /** MPI_TAG_UB, the key of an attribute. */
  readonly tagUpperBound: number;
  /** MPI_THREAD_MULTIPLE */
  readonly threadMultiple: number;
  /** Bytes of an MPI_Status. */
  readonly statusBytes: number;
  /** Where in it MPI_SOURCE is, in bytes. */
  readonly sourceOffset: number;
  /** Where in it MPI_TAG is, in bytes. */
  readonly tagOffset: number;
}
