import { controlBytes } from "./memory-layout.ts";

/** Where the ranks of a world would run. */
export interface WorldPlacement {
  /** Ranks of each process, this one's first: as of `World.processes`. */
  readonly processes: readonly (readonly number[])[];
  /** Number of machines that the processes are on. */
  readonly machines: number;
  /** Bytes of the memory of a process, at most, that are neither the host's heap nor that of a rank. */
  readonly controlBytes: number;
}

/** Where the ranks of a world of `size` would run if this process opened it now: all in this process. */
export function placementOf(size: number): WorldPlacement {
  const all = Array.from({ length: size }, (_, rank) => rank);
  return { processes: [all], machines: 1, controlBytes: controlBytes(size) };
}
