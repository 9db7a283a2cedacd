import { describe, expect, test } from "bun:test";
import { launched, type ReadVariable } from "./launched.ts";

const reader =
  (variables: Readonly<Record<string, string>>): ReadVariable =>
  (name) =>
    variables[name];

describe("launched tells the launcher from the environment", () => {
  test.each([
    ["nothing", {}, undefined],
    [
      "OpenMPI's mpirun",
      { OMPI_COMM_WORLD_SIZE: "4", OMPI_COMM_WORLD_RANK: "3", PMIX_RANK: "3" },
      { launcher: "openmpi", size: 4, rank: 3 },
    ],
    ["MPICH's mpirun", { PMI_SIZE: "2", PMI_RANK: "0" }, { launcher: "pmi", size: 2, rank: 0 }],
    [
      "srun --mpi=pmi2",
      { PMI_RANK: "5", SLURM_STEP_NUM_TASKS: "8", SLURM_PROCID: "5" },
      { launcher: "pmi", size: 8, rank: 5 },
    ],
    [
      "srun --mpi=pmix",
      { PMIX_RANK: "1", SLURM_STEP_NUM_TASKS: "3", SLURM_PROCID: "1", SLURM_MPI_TYPE: "pmix_v4" },
      { launcher: "pmix", size: 3, rank: 1 },
    ],
    [
      "srun whose plugin sets nothing yet",
      { SLURM_STEP_NUM_TASKS: "3", SLURM_PROCID: "2", SLURM_MPI_TYPE: "cray_shasta" },
      { launcher: "pmi", size: 3, rank: 2 },
    ],
    ["another PMIx launcher", { PMIX_RANK: "1" }, { launcher: "pmix", rank: 1 }],
    ["srun without MPI", { SLURM_STEP_NUM_TASKS: "3", SLURM_PROCID: "1", SLURM_MPI_TYPE: "none" }, undefined],
    ["a batch script of Slurm", { SLURM_NTASKS: "8", SLURM_PROCID: "0" }, undefined],
    ["what is no number", { PMI_SIZE: "two", PMI_RANK: "" }, undefined],
  ] as const)("%s", (_, variables, expected) => {
    const found = launched(reader(variables));
    if (expected === undefined) expect(found).toBeUndefined();
    else expect(found).toEqual(expected);
  });
});
