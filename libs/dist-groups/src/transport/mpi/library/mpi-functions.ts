// The functions of MPI that are called, typed for one library's handles.

import { MpiUnsuitable } from "../../../errors/mpi-errors.ts";
import type { NativeCalls, NativeFunction, NativeType, Signature } from "./native-calls.ts";

const NAMES = [
  "MPI_Init_thread",
  "MPI_Initialized",
  "MPI_Finalized",
  "MPI_Query_thread",
  "MPI_Finalize",
  "MPI_Abort",
  "MPI_Comm_rank",
  "MPI_Comm_size",
  "MPI_Comm_dup",
  "MPI_Comm_free",
  "MPI_Comm_get_attr",
  "MPI_Comm_set_errhandler",
  "MPI_Error_string",
  "MPI_Get_library_version",
  "MPI_Isend",
  "MPI_Irecv",
  "MPI_Improbe",
  "MPI_Imrecv",
  "MPI_Test",
  "MPI_Cancel",
  "MPI_Test_cancelled",
  "MPI_Get_count",
] as const;

/** Functions of MPI by name. Each returns MPI's code, 0 for success. */
export type MpiFunctions = Readonly<Record<(typeof NAMES)[number], NativeFunction>>;

/** @param handle how the library passes handles */
function signatures(handle: NativeType): Readonly<Record<(typeof NAMES)[number], readonly NativeType[]>> {
  const address = "usize";
  return {
    MPI_Init_thread: [address, address, "i32", address],
    MPI_Initialized: [address],
    MPI_Finalized: [address],
    MPI_Query_thread: [address],
    MPI_Finalize: [],
    MPI_Abort: [handle, "i32"],
    MPI_Comm_rank: [handle, address],
    MPI_Comm_size: [handle, address],
    MPI_Comm_dup: [handle, address],
    MPI_Comm_free: [address],
    MPI_Comm_get_attr: [handle, "i32", address, address],
    MPI_Comm_set_errhandler: [handle, handle],
    MPI_Error_string: ["i32", address, address],
    MPI_Get_library_version: [address, address],
    MPI_Isend: [address, "i32", handle, "i32", "i32", handle, address],
    MPI_Irecv: [address, "i32", handle, "i32", "i32", handle, address],
    MPI_Improbe: ["i32", "i32", handle, address, address, address],
    MPI_Imrecv: [address, "i32", handle, address, address],
    MPI_Test: [address, address, address],
    MPI_Cancel: [address],
    MPI_Test_cancelled: [address, address],
    MPI_Get_count: [address, handle, address],
  };
}

/**
 * The functions of a loaded MPI library.
 * @throws MpiUnsuitable when it lacks one
 */
export function mpiFunctions(native: NativeCalls, library: string, handle: NativeType): MpiFunctions {
  const types = signatures(handle);
  const wanted = Object.fromEntries(
    NAMES.map((name): [string, Signature] => [name, { args: types[name], returns: "i32" }]),
  );
  let found: ReturnType<NativeCalls["load"]>;
  try {
    found = native.load(library, wanted);
  } catch (error) {
    throw new MpiUnsuitable(`${library} lacks functions of MPI 3: install a newer MPI library`, error);
  }
  const functions: Partial<Record<string, NativeFunction<number | bigint>>> = found;
  if (!isComplete(functions))
    throw new MpiUnsuitable(`${library} lacks functions of MPI 3: install a newer MPI library`);
  return functions;
}

function isComplete(functions: object): functions is MpiFunctions {
  return NAMES.every((name) => typeof Reflect.get(functions, name) === "function");
}
