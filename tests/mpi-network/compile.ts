// Compiles the C programs of these tests, each once: into build/, again when its source is newer.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type MpiImplementation, requireProgram } from "../../libs/dist-groups/test/mpi/mpi-launcher.ts";

const folder = dirname(fileURLToPath(import.meta.url));

/** Compiles relay.c. Returns the program's path. @throws Error with what the compiler said */
export function compileRelay(): string {
  return compile("cc", "relay.c", "relay");
}

/** Compiles mpi-program.c against an MPI. Returns the program's path. @throws Error with what the compiler said */
export function compileMpiProgram(implementation: MpiImplementation): string {
  return compile(requireProgram(`mpicc.${implementation}`), "mpi-program.c", `mpi-program-${implementation}`);
}

function compile(compiler: string, sourceName: string, programName: string): string {
  const source = join(folder, sourceName);
  const program = join(folder, "build", programName);
  if (existsSync(program) && statSync(program).mtimeMs > statSync(source).mtimeMs) return program;
  mkdirSync(dirname(program), { recursive: true });
  // Whole or not at all: other processes may compile and run the same.
  const fresh = `${program}.${process.pid}`;
  const { status, stderr, error } = spawnSync(compiler, ["-O2", "-Wall", "-Wextra", "-o", fresh, source], {
    encoding: "utf8",
    timeout: 60_000,
  });
  if (status !== 0) {
    throw new Error(`${compiler} ${sourceName} failed (${error?.message ?? `exit code ${status}`}):\n${stderr ?? ""}`);
  }
  renameSync(fresh, program);
  return program;
}
