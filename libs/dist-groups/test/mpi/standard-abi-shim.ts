// Builds the shim for tests that has the functions of MPI 5's standard ABI over an installed MPI.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type MpiImplementation, requireProgram } from "./mpi-launcher.ts";

const SOURCE = fileURLToPath(new URL("standard-abi-shim.c", import.meta.url));

/** A shim that is built. */
export interface StandardAbiShim {
  /** Path of the library, for LOCKSTEP_MPI_LIBRARY. */
  readonly library: string;
  /** Removes it. */
  remove(): void;
}

/** Compiles the shim over an implementation. @throws Error with the compiler's messages, or what to install */
export function buildStandardAbiShim(over: MpiImplementation): StandardAbiShim {
  const compiler = requireProgram(`mpicc.${over}`);
  const folder = mkdtempSync(join(tmpdir(), `lockstep-mpi-abi-${over}-`));
  const library = join(folder, "libmpi_abi.so.0");
  const args = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", library, SOURCE];
  const { status, stderr, error } = spawnSync(compiler, args, { encoding: "utf8", timeout: 60_000 });
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  if (status === 0) return { library, remove };
  remove();
  throw new Error(`${compiler} ${args.join(" ")} ended with ${status}: ${error?.message ?? ""}${stderr}`);
}
