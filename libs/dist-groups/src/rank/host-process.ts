/**
 * Where a rank runs, among the processes that the ranks of a world are spread over. Ranks of one process share a
 * memory: they read each other's tensors, and what is in one's heap is in reach of all. Ranks of two processes share
 * nothing. What one is to know of the other travels by a collective, or by the arguments and results of calls.
 */
export interface HostProcess {
  /**
   * Number of the process, from 0. Process 0 is the one that opened the world: the memory of its ranks, of which rank 0
   * is always one, has the host's heap in it.
   */
  readonly index: number;
  /** Number of processes that have ranks of this world. */
  readonly count: number;
  /** Global ranks that run in this process, this one included, in ascending order. */
  readonly ranks: readonly number[];
}

/** The process of a rank, where `processes` are the ranks of each. */
export function hostProcessOf(rank: number, processes: readonly (readonly number[])[]): HostProcess {
  const index = processes.findIndex((ranks) => ranks.includes(rank));
  return { index, count: processes.length, ranks: processes[index] ?? [] };
}
