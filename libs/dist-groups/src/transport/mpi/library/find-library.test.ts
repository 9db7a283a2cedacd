import { describe, expect, test } from "bun:test";
import { MpiNotFound, MpiUnsuitable } from "../../../errors/mpi-errors.ts";
import type { DynamicLinker } from "./dynamic-linker.ts";
import { findLibrary, librariesFor } from "./find-library.ts";
import type { ReadVariable } from "./launched.ts";

const MPI = ["MPI_Init_thread"];
const OPENMPI = [...MPI, "ompi_mpi_comm_world", "ompi_mpi_comm_self", "ompi_mpi_byte", "ompi_mpi_errors_return"];
const MPICH = [...MPI, "MPI_UNWEIGHTED", "MPI_Abi_get_version"];
const STANDARD = [...MPI, "MPI_Abi_get_version"];

/** A machine with these libraries, each with the symbols that it has. */
function machine(libraries: Readonly<Record<string, readonly string[]>>): DynamicLinker {
  const names = Object.keys(libraries);
  return {
    load(name) {
      const at = names.indexOf(name);
      return at < 0 ? { error: `${name}: cannot open shared object file` } : { library: at + 1 };
    },
    address: (library, symbol) => (libraries[names[library - 1] ?? ""]?.indexOf(symbol) ?? -1) + 1,
    intAt: () => 0,
    variable: () => undefined,
    setDefault() {},
    processId: () => 1,
    ask: () => "",
  };
}

const reader =
  (variables: Readonly<Record<string, string>>): ReadVariable =>
  (name) =>
    variables[name];

const ALL = { "libmpi.so.40": OPENMPI, "libmpich.so.12": MPICH, "libmpi_abi.so.0": STANDARD };
const BY_OPENMPI = { OMPI_COMM_WORLD_SIZE: "2" };
const BY_MPICH = { PMI_SIZE: "2", PMI_RANK: "0" };

describe("findLibrary", () => {
  test.each([
    ["all there, no launcher", ALL, {}, "libmpi_abi.so.0", "standard"],
    ["all there, OpenMPI's mpirun", ALL, BY_OPENMPI, "libmpi.so.40", "openmpi"],
    ["all there, MPICH's mpirun", ALL, BY_MPICH, "libmpi_abi.so.0", "standard"],
    [
      "OpenMPI and MPICH, MPICH's mpirun",
      { "libmpi.so.40": OPENMPI, "libmpich.so.12": MPICH },
      BY_MPICH,
      "libmpich.so.12",
      "mpich",
    ],
    [
      "OpenMPI and MPICH, no launcher",
      { "libmpi.so.40": OPENMPI, "libmpich.so.12": MPICH },
      {},
      "libmpi.so.40",
      "openmpi",
    ],
    ["MPICH alone, OpenMPI's mpirun", { "libmpich.so.12": MPICH }, BY_OPENMPI, "libmpich.so.12", "mpich"],
    ["Intel MPI", { "libmpi.so.12": MPICH }, BY_MPICH, "libmpi.so.12", "mpich"],
    [
      "the environment's choice before the launcher",
      ALL,
      { ...BY_OPENMPI, LOCKSTEP_MPI_LIBRARY: "libmpich.so.12" },
      "libmpich.so.12",
      "mpich",
    ],
    // Symbols of what a library depends on are found through it.
    [
      "the standard's library over OpenMPI",
      { "/opt/libmpi_abi.so.1": [...OPENMPI, ...STANDARD] },
      { LOCKSTEP_MPI_LIBRARY: "/opt/libmpi_abi.so.1" },
      "/opt/libmpi_abi.so.1",
      "standard",
    ],
    [
      "a library of the standard layout by another name",
      { "/opt/mpi.so": STANDARD },
      { LOCKSTEP_MPI_LIBRARY: "/opt/mpi.so" },
      "/opt/mpi.so",
      "standard",
    ],
  ] as const)("%s", (_, libraries, variables, name, abi) => {
    const found = findLibrary(machine(libraries), reader(variables));
    expect(found.name).toBe(name);
    expect(found.abi.name).toBe(abi);
  });

  test("the caller's choice comes before the environment's", () => {
    const read = reader({ LOCKSTEP_MPI_LIBRARY: "libmpich.so.12" });
    expect(findLibrary(machine(ALL), read, "libmpi.so.40").abi.name).toBe("openmpi");
  });

  test("none there: the error tells what was tried, and how to install one", () => {
    const find = () => findLibrary(machine({}), reader(BY_OPENMPI));
    expect(find).toThrow(MpiNotFound);
    expect(find).toThrow(/libmpi\.so\.40: cannot open.*libmpi_abi\.so\.0: .*libmpich\.so\.12: .*apt-get install/s);
  });

  test("a choice that is not there is not replaced by another", () => {
    const read = reader({ LOCKSTEP_MPI_LIBRARY: "/nowhere/libmpi.so" });
    expect(() => findLibrary(machine(ALL), read)).toThrow(/\/nowhere\/libmpi\.so: cannot open/);
  });

  test.each([
    ["no MPI library", [], /no MPI library/],
    ["MPI of an unknown layout", MPI, /neither OpenMPI nor MPICH nor/],
    ["an OpenMPI without its variables", [...MPI, "ompi_mpi_comm_world"], /has no ompi_mpi_comm_self/],
  ])("%s is refused", (_, symbols, message) => {
    const find = () => findLibrary(machine({ "x.so": symbols }), reader({}), "x.so");
    expect(find).toThrow(MpiUnsuitable);
    expect(find).toThrow(message);
  });
});

test("every launcher gets every library, in an order of its own", () => {
  for (const system of ["linux", "darwin"]) {
    const orders = [librariesFor("openmpi", system), librariesFor("pmi", system), librariesFor(undefined, system)];
    expect(new Set(orders.map(String)).size).toBe(3);
    expect(new Set(orders.map((order) => [...order].sort().join())).size).toBe(1);
  }
});
