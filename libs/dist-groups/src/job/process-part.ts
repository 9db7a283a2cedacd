import type { SharedHeap } from "@lockstep/tensor";
import { FLIGHT_RING_WORDS } from "../flight-record/flight-ring.ts";
import { compileReduceKernels } from "../reduction/reduce.ts";
import { FlightDirectory } from "../transport/mpi/flight-directory.ts";
import type { RankHome } from "../transport/mpi/tags.ts";
import { startWorker } from "../site/rank-thread.ts";
import type { RankWorkerSource, WebWorkerLike } from "../site/worker-like.ts";
import { givePlace } from "../site/world-site.ts";
import type { Job } from "./job.ts";
import { processesHere } from "./launched-processes.ts";
import type { WorldPart } from "./main-messages.ts";
import { divideMemory, openProcessMemory, type ProcessMemory } from "./process-memory.ts";

/** Global ranks that live in each process, by process. */
export function ranksByProcess(homes: readonly RankHome[]): readonly (readonly number[])[] {
  const ranks: number[][] = [];
  for (const [rank, { process }] of homes.entries()) {
    ranks[process] ??= [];
    ranks[process].push(rank);
  }
  return ranks;
}

/**
 * Memories that ranks may have left something on its way to when their workers were ended. The library may write to
 * them for as long as the process lives.
 */
const kept: SharedHeap[] = [];

/** What one process holds of a world: its memory, and the workers of its ranks. */
export class ProcessPart {
  /** The host's heap. */
  readonly heap: SharedHeap;
  /** Where the leader allocates the blocks of groups, for all processes. */
  readonly blocks: SharedHeap;
  /** Its ranks. */
  readonly ranks: readonly number[];
  readonly #job: Job;
  readonly #part: WorldPart;
  readonly #memory: ProcessMemory;
  readonly #clock: Int32Array;
  readonly #directories: readonly FlightDirectory[];
  #reduceKernels: object | undefined;

  /** Throws ArgumentError when the heaps do not fit. */
  constructor(job: Job, part: WorldPart, heapBytesHost: number | undefined) {
    this.#job = job;
    this.#part = part;
    this.ranks = ranksByProcess(part.homes)[job.process] ?? [];
    const workers = this.ranks.length;
    const division = divideMemory(part.size, workers, part.heapBytesPerRank, heapBytesHost);
    const { memory, host, blocks } = openProcessMemory(workers, division);
    const { buffer } = memory.heap;
    this.heap = host;
    this.blocks = blocks;
    this.#memory = memory;
    this.#clock = new Int32Array(buffer, memory.clockOffset, 1);
    this.#directories = memory.directories.map((offset) => new FlightDirectory(buffer, offset));
  }

  async prepare(): Promise<void> {
    this.#reduceKernels = await compileReduceKernels();
  }

  /** Starts the worker of one of its ranks. `worker`: the library's own when it is undefined. */
  startWorker(rank: number, worker: RankWorkerSource | undefined): WebWorkerLike {
    const { handles, processes } = this.#job;
    const { world, homes, openedAt } = this.#part;
    const { heap, rooms, heaps, directories, clockOffset } = this.#memory;
    const index = homes[rank]?.worker ?? 0;
    const started = startWorker(rank, { worker });
    const cores = navigator.hardwareConcurrency;
    givePlace(started, {
      cores,
      memory: heap.memory,
      memoryId: heap.id,
      heap: heaps[index] ?? { start: 0, bytes: 0 },
      reduceKernels: this.#reduceKernels ?? {},
      transport: {
        kind: "mpi",
        handles,
        world,
        homes,
        openedAt,
        room: rooms[index] ?? { start: 0, bytes: 0 },
        blocksStart: this.blocks.start,
        directoryOffset: directories[index] ?? 0,
        clockOffset,
        isCrowded: processesHere(processes) * this.ranks.length > cores,
      },
    });
    return started;
  }

  /** Sets the coarse clock of its ranks. */
  tick(): void {
    Atomics.store(this.#clock, 0, Date.now() - this.#part.openedAt);
  }

  /** The flight rings of a rank, by channel; none of a rank of another process. */
  *rings(rank: number): Generator<readonly [channel: number, ring: Int32Array]> {
    const home = this.#part.homes[rank];
    if (home?.process !== this.#job.process) return;
    const directory = this.#directories[home.worker];
    for (const [channel, byteOffset] of directory?.entries() ?? []) {
      yield [channel, new Int32Array(this.#memory.heap.buffer, byteOffset, FLIGHT_RING_WORDS)];
    }
  }

  /** Its workers have ended. */
  close(): void {
    // A rank that has ended its part in every group has called off what the library might still write to.
    const isClean = this.ranks.every((rank) => this.rings(rank).next().done === true);
    if (!isClean) kept.push(this.#memory.heap);
  }
}
