// Makes sure that what the tests of MPI need is there: OpenMPI and MPICH with their compilers, and iproute2, which gives
// several machines in one their networks.
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { installPackages } from "./apt-get.ts";

const PACKAGES = ["openmpi-bin", "libopenmpi-dev", "mpich", "libmpich-dev", "gcc", "libc6-dev", "iproute2"];
const PROGRAMS = ["mpirun.openmpi", "mpicc.openmpi", "mpirun.mpich", "mpicc.mpich", "cc", "ip"];
const ADVICE = `Install OpenMPI, MPICH, a C compiler and iproute2: \`apt-get install ${PACKAGES.join(" ")}\``;

/**
 * Installs OpenMPI and MPICH where they are missing, on Debian and its derivatives as root. Does nothing where they are
 * present. Throws, saying what to install, where it cannot install them.
 */
export function ensureMpi(): void {
  if (missing().length === 0) return;
  installPackages({ packages: PACKAGES, purpose: `MPI (${missing().join(", ")})`, advice: ADVICE });
  if (missing().length > 0) {
    throw new Error(`${PACKAGES.join(", ")} were installed, but ${missing().join(", ")} is missing. ${ADVICE}.`);
  }
}

function missing(): string[] {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  return PROGRAMS.filter((program) => !folders.some((folder) => folder !== "" && existsSync(join(folder, program))));
}

if (import.meta.main) ensureMpi();
