// Which MPI library to load. Only the launcher's own sees the other processes, so the launcher decides where there is
// one; LOCKSTEP_MPI_LIBRARY decides before all.

import { platformName } from "@lockstep/tensor";
import { MpiNotFound, MpiUnsuitable } from "../../../errors/mpi-errors.ts";
import type { MpiAbi } from "./abi.ts";
import type { DynamicLinker } from "./dynamic-linker.ts";
import { type MpiLauncher, type ReadVariable, launched } from "./launched.ts";
import type { MpiAbiName } from "./mpi.ts";
import { MPICH, MPICH_SYMBOL } from "./mpich.ts";
import { openmpi, OPENMPI_SYMBOL } from "./openmpi.ts";
import { STANDARD_ABI, STANDARD_LIBRARY } from "./standard-abi.ts";

/** The environment's choice: a library's file name, or its path. */
const CHOICE = "LOCKSTEP_MPI_LIBRARY";

interface Names {
  readonly openmpi: readonly string[];
  readonly mpich: readonly string[];
  readonly standard: readonly string[];
}

const LINUX: Names = {
  openmpi: ["libmpi.so.40"],
  mpich: ["libmpich.so.12", "libmpi.so.12"],
  standard: ["libmpi_abi.so.0", "libmpi_abi.so"],
};
const MAC: Names = {
  openmpi: ["libmpi.40.dylib", "/opt/homebrew/lib/libmpi.40.dylib", "/usr/local/lib/libmpi.40.dylib"],
  mpich: ["libmpi.12.dylib", "/opt/homebrew/lib/libmpi.12.dylib", "/usr/local/lib/libmpi.12.dylib"],
  standard: ["libmpi_abi.0.dylib", "/opt/homebrew/lib/libmpi_abi.0.dylib", "/usr/local/lib/libmpi_abi.0.dylib"],
};

/** A library that is loaded, and how it lays things out. */
export interface FoundLibrary {
  /** As it was loaded: a file name or a path. */
  readonly name: string;
  readonly abi: MpiAbi;
}

/**
 * The libraries to try, the best first: those that match the launcher before the others.
 * @param launcher what started this process, undefined when nothing did
 */
export function librariesFor(launcher: MpiLauncher | undefined, system = platformName()): readonly string[] {
  const { openmpi, mpich, standard } = system === "darwin" ? MAC : LINUX;
  // OpenMPI speaks PMIx alone, and MPICH can speak it.
  if (launcher === "openmpi" || launcher === "pmix") return [...openmpi, ...standard, ...mpich];
  if (launcher === "pmi") return [...standard, ...mpich, ...openmpi];
  return [...standard, ...openmpi, ...mpich];
}

/**
 * Loads the MPI library that this process is to use: `chosen`, else the environment's LOCKSTEP_MPI_LIBRARY, else the
 * first that is there of {@link librariesFor}.
 * @param read reads a variable of the environment
 * @throws MpiNotFound when none can be loaded
 * @throws MpiUnsuitable when what was loaded is no MPI library of a known layout
 */
export function findLibrary(linker: DynamicLinker, read: ReadVariable, chosen?: string): FoundLibrary {
  const named = chosen ?? read(CHOICE);
  const tried: string[] = [];
  for (const name of named === undefined ? librariesFor(launched(read)?.launcher) : [named]) {
    const loaded = linker.load(name);
    if ("library" in loaded) return { name, abi: abiOf(linker, name, loaded.library) };
    // The loader's message opens with the name.
    tried.push(loaded.error.startsWith(name) ? loaded.error : `${name}: ${loaded.error}`);
  }
  throw new MpiNotFound(tried);
}

/** The layout that `attachMpi` on another thread needs again, by the name that the first thread found. */
export function abiNamed(linker: DynamicLinker, library: string, name: MpiAbiName): MpiAbi {
  if (name === "mpich") return MPICH;
  if (name === "standard") return STANDARD_ABI;
  const loaded = linker.load(library);
  if ("error" in loaded) throw new MpiNotFound([loaded.error]);
  return openmpi((symbol) => linker.address(loaded.library, symbol));
}

/**
 * A library of the standard layout goes by its name: symbols of the MPI below it are found through it as well, and
 * other layouts' libraries may export the standard's functions.
 */
function abiOf(linker: DynamicLinker, name: string, library: number): MpiAbi {
  const has = (symbol: string): boolean => linker.address(library, symbol) !== 0;
  if (!has("MPI_Init_thread")) {
    throw new MpiUnsuitable(`${name} is no MPI library (it has no MPI_Init_thread): set ${CHOICE} to one`);
  }
  if (STANDARD_LIBRARY.test(name.slice(name.lastIndexOf("/") + 1))) return STANDARD_ABI;
  if (has(OPENMPI_SYMBOL)) return openmpi((symbol) => linker.address(library, symbol));
  if (has(MPICH_SYMBOL)) return MPICH;
  if (has("MPI_Abi_get_version")) return STANDARD_ABI;
  throw new MpiUnsuitable(
    `${name} is neither OpenMPI nor MPICH nor of MPI 5's standard ABI: set ${CHOICE} to a library that is`,
  );
}
