// The tags of MPI messages. A process has one communicator; the tag says for which of its threads a message is, and
// what it is part of:
//
//   0            from one main thread to another: what goes on between the host and the workers of ranks
//   1            from a rank to the leader's main thread: news of its health and of aborted groups
//   2 ... 65     to the rank of worker 0 ... 63 of the process: aborts, and news of its peers
//   128 ...      of one group, from one rank to another: ((channel * 64 + to) * 64 + from) * 2 + kind
//
// A channel is the number of a group among all groups of all worlds of a job, taken modulo the room that the library
// leaves for it (32,752 channels with MPICH, more with OpenMPI): what an aborted group has left on the way cannot reach
// a newer one.

/** Most ranks of one process. */
export const MOST_WORKERS = 64;
/** Between main threads. */
export const MAIN_TAG = 0;
/** From ranks to the leader's main thread. */
export const NEWS_TAG = 1;
const FIRST_RANK_TAG = 2;
const FIRST_GROUP_TAG = 128;
const TAGS_PER_CHANNEL = 2 * MOST_WORKERS * MOST_WORKERS;
/** Least channels with which a library will do. */
const LEAST_CHANNELS = 1024;

/** The least `MPI_TAG_UB` with which groups have room. */
export const LEAST_TAG_LIMIT = FIRST_GROUP_TAG + LEAST_CHANNELS * TAGS_PER_CHANNEL;

/** An announcement, or a round without one. */
export const ANNOUNCEMENT = 0;
/** A slice of a tensor. */
export const SLICE = 1;

/** Where a rank lives. */
export interface RankHome {
  /** The process, by its MPI rank. */
  readonly process: number;
  /** Its worker among the process's own, from 0. */
  readonly worker: number;
}

/** Tag of messages to the rank of a worker that belong to no group. */
export function rankTag(worker: number): number {
  return FIRST_RANK_TAG + worker;
}

/** The tags of all messages to ranks that belong to no group. */
export function rankTags(): readonly number[] {
  return Array.from({ length: MOST_WORKERS }, (_, worker) => rankTag(worker));
}

/** Tag of messages of a group between the ranks of two workers. */
export function groupTag(
  channel: number,
  to: RankHome,
  from: RankHome,
  kind: typeof ANNOUNCEMENT | typeof SLICE,
  tagLimit: number,
): number {
  const channels = Math.floor((tagLimit + 1 - FIRST_GROUP_TAG) / TAGS_PER_CHANNEL);
  const pair = to.worker * MOST_WORKERS + from.worker;
  return FIRST_GROUP_TAG + (channel % channels) * TAGS_PER_CHANNEL + 2 * pair + kind;
}

/**
 * Deals the ranks of a world to the processes of a job: consecutive ranks to the same process, the first ranks to
 * process 0, as evenly as can be. A world of fewer ranks than processes leaves the last processes idle.
 */
export function dealRanks(ranks: number, processes: number): readonly RankHome[] {
  const used = Math.min(ranks, processes);
  const homes: RankHome[] = [];
  for (let process = 0; process < used; process++) {
    const first = Math.floor((ranks * process) / used);
    const end = Math.floor((ranks * (process + 1)) / used);
    for (let rank = first; rank < end; rank++) homes.push({ process, worker: rank - first });
  }
  return homes;
}
