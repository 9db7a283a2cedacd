import { expect, test } from "bun:test";
import { leaveMpich, waitsForEver } from "./leave-mpich.ts";
import type { MpiHandles } from "./mpi.ts";

test.each([
  ["MPICH Version: 4.0.2", true],
  ["MPICH Version: 3.4.3", true],
  ["MPICH Version:\t4.1", true],
  ["MPICH Version: 4.2.0", false],
  ["MPICH Version: 4.10.1", false],
  ["MPICH Version: 5.0.0", false],
  ["Open MPI v4.1.4, package: Debian OpenMPI", false],
  ["Intel(R) MPI Library 2021.11", false],
  ["", false],
])("whether %s waits for ever: %p", (version, expected) => {
  expect(waitsForEver({ version })).toBe(expected);
});

test.each([
  ["on several hosts", { PMI_FD: "9", MPI_LOCALNRANKS: "2" }, "cmd=finalize_ack\n", true, ["9 cmd=finalize\n"]],
  ["where the launcher does not tell of hosts", { PMI_FD: "9" }, "cmd=finalize_ack\n", true, ["9 cmd=finalize\n"]],
  ["on one host", { PMI_FD: "9", MPI_LOCALNRANKS: "4" }, "cmd=finalize_ack\n", false, []],
  ["without a launcher", {}, "cmd=finalize_ack\n", false, []],
  ["with what is no file's number", { PMI_FD: "x" }, "cmd=finalize_ack\n", false, []],
  ["where the launcher does not answer", { PMI_FD: "9" }, "", false, ["9 cmd=finalize\n"]],
] as const)("leaving %s", (_, variables, answer, left, asked) => {
  const said: string[] = [];
  const linker = {
    variable: (name: string) => (variables as Readonly<Record<string, string>>)[name],
    ask(file: number, line: string) {
      said.push(`${file} ${line}`);
      return answer;
    },
  };
  const handles: MpiHandles = {
    library: "libmpich.so.12",
    abi: "mpich",
    version: "MPICH Version: 4.0.2",
    communicator: 1n,
    tagLimit: 32_767,
    rank: 0,
    size: 4,
  };
  expect(leaveMpich(linker, handles)).toBe(left);
  expect(said).toEqual([...asked]);
});
