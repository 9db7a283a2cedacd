// One rank of the interleaving test, in a worker: real groups, channels and collectives, on primitives that a seed
// schedules. A run is a few random collectives on a control block of its own; every result is checked, and every tensor
// is overwritten as soon as the rank may, so that a peer that reads too late reads garbage.

import { SharedHeap } from "@lockstep/tensor";
import { CollectiveTimeout, GroupAborted, RankCrashed } from "../../src/errors/errors.ts";
import { BlockingGroup } from "../../src/group/blocking-group.ts";
import { CollectiveRun } from "../../src/group/collective-run.ts";
import { instantiateReduceKernels, type ReduceKernels } from "../../src/reduction/reduce.ts";
import type { GroupSettings } from "../../src/group/group-settings.ts";
import { controlBlockLayout } from "../../src/transport/shared-memory/control-block.ts";
import { RankStatus } from "../../src/transport/shared-memory/rank-status.ts";
import { SharedMemoryTransport } from "../../src/transport/shared-memory/shared-memory-transport.ts";
import { SpinBudget } from "../../src/transport/shared-memory/spin-budget.ts";
import { makeTensors, OPERATIONS, type RankTensors } from "./operations.ts";
import {
  FAULT_KINDS,
  type FaultKind,
  type Mutation,
  type RankJob,
  type RankReport,
  STAGING_BYTES,
} from "./rank-job.ts";
import { type RunStatistics, ScheduledThread } from "./scheduled-atomics.ts";

/** Bytes that are still staged, so that small tensors go both ways. */
const STAGED_LIMIT = 64;
const DEADLINE_MS = 200;
const SMALL = 3;
const LARGE = 40;
const MOST_COLLECTIVES = 4;

class FewSpins extends SpinBudget {
  constructor() {
    super(2, 2, false);
    this.spins = 1;
  }

  override parkedFor(): void {}
}

class Interleaved {
  readonly #job: RankJob;
  readonly #thread: ScheduledThread;
  readonly #words: Int32Array;
  readonly #status: RankStatus;
  readonly #kernels: ReduceKernels;
  readonly #heap: SharedHeap;
  readonly #tensors: ReadonlyMap<number, RankTensors>;

  constructor(job: RankJob) {
    this.#job = job;
    const { memory, rank, size } = job;
    const layout = controlBlockLayout(size, STAGING_BYTES);
    this.#thread = new ScheduledThread(new Int32Array(job.control), rank, size);
    this.#words = new Int32Array(memory.buffer, job.blockOffset, layout.totalWords);
    this.#status = new RankStatus(memory.buffer, job.statusOffset, size, Date.now());
    this.#heap = SharedHeap.range("interleaving", memory, job.heapOffset, job.heapBytes);
    this.#tensors = new Map([SMALL, LARGE].map((count) => [count, makeTensors(this.#heap, size, count)]));
    const kernels = instantiateReduceKernels(job.kernels, memory);
    // Moves of data are steps too, so that they fall between the steps of the peers.
    const step = (): void => this.#thread.step(-1);
    this.#kernels = {
      move(...args) {
        step();
        kernels.move(...args);
        step();
      },
      copy(...args) {
        step();
        kernels.copy(...args);
        step();
      },
      fold(...args) {
        step();
        kernels.fold(...args);
        step();
      },
    };
    this.#thread.install(memory.buffer);
    mutate(job.mutation, this.#thread);
  }

  runAll(): RankReport {
    const { firstSeed, runs, rank } = this.#job;
    const wrong: string[] = [];
    const statistics: (RunStatistics & { seed: number })[] = [];
    let failuresSeen = 0;
    if (rank === 0) this.#prepare(firstSeed);
    for (let seed = firstSeed; seed < firstSeed + runs; seed++) {
      this.#thread.enter();
      let complaint: string | undefined;
      try {
        const failed = this.#run(seed);
        if (failed) failuresSeen++;
      } catch (error) {
        complaint = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
      }
      if (complaint !== undefined) wrong.push(`seed ${seed}, rank ${rank}: ${complaint}`);
      if (this.#thread.leave()) {
        statistics.push({ ...this.#thread.statistics, seed });
        if (seed + 1 < firstSeed + runs) this.#prepare(seed + 1);
        else this.#thread.end();
      }
    }
    return { wrong, statistics, failuresSeen };
  }

  /** Clears the control block and the status for the next run, and starts it. */
  #prepare(seed: number): void {
    const { size, statusOffset, memory } = this.#job;
    const layout = controlBlockLayout(size, STAGING_BYTES);
    this.#words.fill(0);
    for (let rank = 0; rank < size; rank++) this.#words[layout.progressWord(rank)] = initialProgress(seed);
    const status = new Int32Array(memory.buffer, statusOffset, RankStatus.totalWords(size));
    status.fill(0);
    status[0] = 1;
    this.#thread.begin(seed);
  }

  /** True when the run ended in a failure that it must end in. Throws when anything is not as it must be. */
  #run(seed: number): boolean {
    const { rank, size, withFaults, memory, blockOffset } = this.#job;
    const draw = generator(seed);
    const collectives = Array.from({ length: 1 + (draw() % MOST_COLLECTIVES) }, () => ({
      index: draw() % OPERATIONS.length,
      count: draw() % 2 === 0 ? SMALL : LARGE,
      root: draw() % size,
    }));
    const fault = {
      kind: FAULT_KINDS[draw() % FAULT_KINDS.length],
      victim: draw() % size,
      at: draw() % collectives.length,
    };
    const settings: GroupSettings = {
      name: "interleaved",
      generation: 1,
      ranks: Array.from({ length: size }, (_, at) => at),
      stagedLimit: STAGED_LIMIT,
      stagedAllReduceLimit: STAGED_LIMIT,
      deadlineMs: DEADLINE_MS,
    };
    const waiting = { budget: new FewSpins(), scheduler: undefined, spread: undefined };
    const { ranks } = settings;
    const place = { byteOffset: blockOffset, stagingBytes: STAGING_BYTES, initialProgress: initialProgress(seed) };
    const transport = new SharedMemoryTransport(place, ranks, rank, memory.buffer, this.#status, waiting);
    const run = new CollectiveRun(settings, transport, this.#status);
    const group = new BlockingGroup(run, transport, this.#kernels, this.#heap);
    try {
      for (const [at, { index, count, root }] of collectives.entries()) {
        if (withFaults && rank === fault.victim && at === fault.at) {
          if (fault.kind === "does not come") return true;
          if (fault.kind === "aborts") run.abort(new RankCrashed(rank, "it aborted on purpose", undefined));
          throw new Error("on purpose");
        }
        const tensors = this.#tensors.get(count);
        if (tensors === undefined) throw new Error(`no tensors of ${count} elements`);
        OPERATIONS[index]?.(group, tensors, {
          seed: seed * MOST_COLLECTIVES + at,
          root,
          step: () => this.#thread.step(-2),
        });
      }
    } catch (error) {
      const isOwn = error instanceof Error && error.message === "on purpose";
      const crash = new RankCrashed(rank, String(error), error);
      this.#status.leave(
        rank,
        error instanceof GroupAborted && error.cause instanceof RankCrashed ? error.cause : crash,
      );
      run.nudgePeers();
      if (isOwn && withFaults && rank === fault.victim) return true;
      const expected = withFaults && rank !== fault.victim ? expectedFailure(error, fault.kind, fault.victim) : false;
      if (!expected) throw error;
      return true;
    }
    if (withFaults)
      throw new Error(`came through although rank ${fault.victim} ${fault.kind} at collective ${fault.at}`);
    return false;
  }
}

/** True when a peer of the victim has to come out with this error. */
function expectedFailure(error: unknown, kind: FaultKind | undefined, victim: number): boolean {
  if (kind === "does not come") {
    const cause = error instanceof GroupAborted ? error.cause : error;
    return cause instanceof CollectiveTimeout && cause.missing.length === 1 && cause.missing[0] === victim;
  }
  return error instanceof GroupAborted && error.failedRanks.length === 1 && error.failedRanks[0] === victim;
}

function mutate(mutation: Mutation, thread: ScheduledThread): void {
  if (mutation === "nobody acknowledges") {
    const { drive, awaitPeers } = CollectiveRun.prototype;
    let waits = 0;
    CollectiveRun.prototype.drive = function (this: CollectiveRun, rounds) {
      waits = 0;
      drive.call(this, rounds);
    };
    CollectiveRun.prototype.awaitPeers = function (this: CollectiveRun) {
      if (waits++ === 0) awaitPeers.call(this);
    };
  } else if (mutation === "slots do not alternate") {
    SharedMemoryTransport.prototype.turn = (): void => undefined;
  } else thread.mutation = mutation;
}

/** Some runs start where progress words wrap around. */
function initialProgress(seed: number): number {
  return seed % 3 === 0 ? 2 ** 31 - 2 : 0;
}

/** Numbers from a seed, the same on every rank. */
function generator(seed: number): () => number {
  let state = (Math.imul(seed, 0x85ebca6b) ^ 0x27d4eb2f) | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 8;
  };
}

// Workers in Bun lose messages that come before the handler is set.
self.onmessage = ({ data }: MessageEvent<RankJob>): void => {
  postMessage(new Interleaved(data).runAll());
};
postMessage("ready");
