// Whether this process was started by an MPI launcher, and by which: told from the environment, before MPI is loaded.

import { builtinModule } from "@lockstep/tensor";

/** A launcher of MPI processes, by what it speaks with the MPI library. */
export type MpiLauncher =
  /** OpenMPI's mpirun. */
  | "openmpi"
  /** MPICH's mpirun (Hydra), Intel MPI's, and `srun --mpi=pmi2`. */
  | "pmi"
  /** `srun --mpi=pmix`, PRRTE's prterun, and others that speak PMIx. */
  | "pmix";

/** How this process was launched. */
export interface Launched {
  readonly launcher: MpiLauncher;
  /** Number of processes, where the launcher tells. */
  readonly size?: number;
  /** Number of this process, where the launcher tells. */
  readonly rank?: number;
}

/** Variables of the environment by name; those that are not set are undefined. */
export type ReadVariable = (name: string) => string | undefined;

/** The global `Deno`, as far as it is used here. */
interface DenoPermissions {
  readonly permissions: {
    querySync(descriptor: { readonly name: "env"; readonly variable: string }): { readonly state: string };
  };
}

/**
 * Reads variables of this process's environment. There are none in browsers. In Deno without permission to read one,
 * which is never asked for, `otherwise` reads it.
 */
export function environment(otherwise: ReadVariable = () => undefined): ReadVariable {
  const deno = (globalThis as { readonly Deno?: DenoPermissions }).Deno;
  const process = builtinModule<{ readonly env: Readonly<Record<string, string | undefined>> }>("node:process");
  return (name) => {
    const mayRead = deno?.permissions.querySync({ name: "env", variable: name }).state ?? "granted";
    return mayRead === "granted" ? process?.env[name] : otherwise(name);
  };
}

/**
 * The launcher that started this process, or undefined when none did: then MPI has this one process. In Deno it takes
 * the permission `--allow-env` to tell.
 * @param read reads a variable; of the process's own environment by default
 */
export function launched(read: ReadVariable = environment()): Launched | undefined {
  const number = (...names: string[]): number | undefined => {
    const value = names.map(read).find((text) => text !== undefined && /^\d+$/.test(text));
    return value === undefined ? undefined : Number(value);
  };
  const of = (launcher: MpiLauncher, size: number | undefined, rank: number | undefined): Launched => ({
    launcher,
    ...(size === undefined ? {} : { size }),
    ...(rank === undefined ? {} : { rank }),
  });
  const openmpiSize = number("OMPI_COMM_WORLD_SIZE");
  if (openmpiSize !== undefined) return of("openmpi", openmpiSize, number("OMPI_COMM_WORLD_RANK", "PMIX_RANK"));
  const slurmSize = number("SLURM_STEP_NUM_TASKS");
  const pmiRank = number("PMI_RANK");
  if (pmiRank !== undefined) return of("pmi", number("PMI_SIZE") ?? slurmSize, pmiRank);
  const pmixRank = number("PMIX_RANK");
  if (pmixRank !== undefined) return of("pmix", slurmSize, pmixRank);
  // `srun` sets these for every program; only with one of its MPI plugins are the processes to be one MPI world.
  const plugin = read("SLURM_MPI_TYPE");
  if (slurmSize === undefined || plugin === undefined || plugin === "none") return undefined;
  return of(plugin.startsWith("pmix") ? "pmix" : "pmi", slurmSize, number("SLURM_PROCID"));
}
