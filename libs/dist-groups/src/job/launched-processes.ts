import { environment, launched } from "../transport/mpi/library/launched.ts";

/** How many processes an MPI launcher started together with this one, this one included; 1 where none did. */
export function launchedProcesses(): number {
  if (environment()("LOCKSTEP_MPI") === "0") return 1;
  const launch = launched();
  return launch === undefined ? 1 : (launch.size ?? 2);
}

/** How long the first process may be silent before the others end the job, in milliseconds. */
const SILENCE_MS = 300_000;

/** The same, by the environment where it tells. Long: a first process that computes without a pause is silent too. */
export function longestSilenceMs(): number {
  const value = environment()("LOCKSTEP_MPI_SILENCE_MS");
  return value !== undefined && /^[1-9]\d*$/.test(value) ? Number(value) : SILENCE_MS;
}

/** How many of them run on this machine, where the launcher tells; else all of them are taken to. */
export function processesHere(processes: number): number {
  const read = environment();
  for (const name of ["OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE"]) {
    const value = read(name);
    if (value !== undefined && /^[1-9]\d*$/.test(value)) return Number(value);
  }
  return processes;
}
