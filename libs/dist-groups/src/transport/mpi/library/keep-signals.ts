// Keeps the libraries below MPI from signals that the runtime handles. UCX, through which MPICH (and OpenMPI on some
// networks) sends, takes SIGSEGV, SIGILL, SIGBUS and SIGFPE when it is loaded, to print a trace. In Bun and Deno these
// are how WebAssembly traps: an access out of bounds would end the process instead of throwing.

import type { DynamicLinker } from "./dynamic-linker.ts";

/** UCX's settings, which it reads from C's environment as it is loaded. What a user has set is left. */
const SETTINGS = { UCX_ERROR_SIGNALS: "", UCX_HANDLE_ERRORS: "none" };

/** Call it before the MPI library is loaded. */
export function keepSignals(linker: DynamicLinker): void {
  for (const [name, value] of Object.entries(SETTINGS)) linker.setDefault(name, value);
}
