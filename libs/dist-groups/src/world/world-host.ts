import { ArgumentError, SharedHeap } from "@lockstep/tensor";
import { CallInterrupted, CallTimeout, CloseFailed, RankCrashed, WorldClosed, WorldStartFailed } from "../errors.ts";
import type { FlightRecord } from "../flight-record.ts";
import type { Reply } from "../rank-protocol.ts";
import { compileReduceKernels } from "../reduction/reduce.ts";
import type { GroupDescriptor } from "../transport/shared-memory/control-block.ts";
import { RankStatus } from "../transport/shared-memory/rank-status.ts";
import {
  checkPartitions,
  checkRanks,
  checkStagingBytes,
  chooseStagedLimits,
  DEFAULT_STAGING_BYTES,
  GroupRegistry,
} from "./group-registry.ts";
import { Liveness } from "./liveness.ts";
import { type MemoryLayout, memoryLayout } from "./memory-layout.ts";
import { PendingCall } from "./pending-call.ts";
import { RankWorker } from "./rank-worker.ts";
import type { WorldSettings } from "./world-settings.ts";

/** The longest delay that setTimeout takes. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Owns a world: its memory, its workers, its groups, the calls in flight. Plain promises; `world.ts` is the public face. */
export class WorldHost {
  readonly size: number;
  /** Every rank. */
  readonly ranks: readonly number[];
  readonly heap: SharedHeap;
  readonly #settings: WorldSettings;
  readonly #layout: MemoryLayout;
  readonly #groups: GroupRegistry;
  readonly #statusOffset: number;
  /** By `Date.now()`. */
  readonly #openedAt: number;
  readonly #status: RankStatus;
  readonly #liveness: Liveness;
  readonly #workers: RankWorker[] = [];
  readonly #calls = new Set<PendingCall>();
  /** What ranks have not answered yet, whether or not the call was given up. */
  readonly #invocations = new Set<Invocation>();
  #hadFailure = false;
  #interruption: string | undefined;
  #closing: Promise<void> | undefined;

  constructor(settings: WorldSettings) {
    const { size, deadlineMs } = settings;
    if (!Number.isInteger(size) || size < 1 || size > 255) {
      throw new ArgumentError("openWorld", "size", "an integer from 1 to 255", String(size));
    }
    checkMilliseconds("openWorld", "deadlineMs", deadlineMs);
    checkMilliseconds("openWorld", "startDeadlineMs", settings.startDeadlineMs);
    checkMilliseconds("openWorld", "closeDeadlineMs", settings.closeDeadlineMs);
    checkPartitions(settings.groups, size);
    const stagingBytes = settings.stagingBytes ?? DEFAULT_STAGING_BYTES;
    checkStagingBytes(stagingBytes, size);
    const stagedLimits = chooseStagedLimits(settings.stagedLimit, stagingBytes, size, navigator.hardwareConcurrency);
    this.size = size;
    this.ranks = Array.from({ length: size }, (_, rank) => rank);
    this.#settings = settings;
    this.#layout = memoryLayout(size, settings.heapBytesPerRank, settings.heapBytesHost);
    const whole = SharedHeap.create(this.#layout.totalBytes);
    const { control, host } = this.#layout;
    const controlHeap = SharedHeap.range(whole.id, whole.memory, control.start, control.bytes);
    this.heap = SharedHeap.range(whole.id, whole.memory, host.start, host.bytes);
    this.#statusOffset = controlHeap.allocate(RankStatus.totalWords(size) * 4);
    this.#openedAt = Date.now();
    this.#status = new RankStatus(whole.buffer, this.#statusOffset, size, this.#openedAt);
    this.#status.nextEpoch();
    this.#groups = new GroupRegistry(
      controlHeap,
      deadlineMs,
      stagingBytes,
      stagedLimits,
      settings.initialProgress ?? 0,
    );
    this.#liveness = new Liveness(this.#status, (rank, error) => this.#workers[rank]?.die(error));
    this.#groups.create("world", this.ranks);
    for (const [name, partition] of Object.entries(settings.groups)) {
      for (const ranks of partition) this.#groups.create(name, ranks);
    }
  }

  /** Starts every rank: worker, program, `setup`. On failure the caller closes the world. */
  async start(): Promise<void> {
    const reduceKernels = await compileReduceKernels();
    if (this.#closing !== undefined) throw new WorldClosed("openWorld");
    if (this.#interruption !== undefined) throw new CallInterrupted("openWorld", this.ranks, this.#interruption);
    for (const rank of this.ranks) {
      this.#workers.push(new RankWorker(rank, (error) => this.#onDeath(rank, error)));
    }
    const { program, options, startDeadlineMs } = this.#settings;
    const call = this.#begin("setup", this.ranks, startDeadlineMs, async (worker) => {
      await worker.ready;
      return worker.start({
        rank: worker.rank,
        size: this.size,
        cores: navigator.hardwareConcurrency,
        memory: this.heap.memory,
        memoryId: this.heap.id,
        heap: this.#layout.ranks[worker.rank] ?? { start: 0, bytes: 0 },
        statusOffset: this.#statusOffset,
        openedAt: this.#openedAt,
        reduceKernels,
        groups: this.#groups.of(worker.rank),
        program: String(program),
        options,
      });
    });
    await call.promise.catch((error: unknown) => {
      throw this.#startFailure(error, call.outstanding);
    });
  }

  #startFailure(error: unknown, late: readonly number[]): Error {
    if (error instanceof WorldClosed || error instanceof CallInterrupted) return error;
    const cause = error instanceof Error ? error : new Error(String(error));
    const rank: unknown = Reflect.get(cause, "rank");
    return new WorldStartFailed(typeof rank === "number" ? [rank] : late, cause.message, cause);
  }

  /** Gives up a start that is under way. */
  interrupt(reason: string): void {
    this.#interruption = reason;
    for (const call of this.#calls) call.interrupt(reason);
  }

  /** Calls a method on some ranks. */
  call(
    method: string,
    ranks: readonly number[],
    args: readonly unknown[],
    deadlineMs: number | undefined,
  ): PendingCall {
    if (this.#closing !== undefined) throw new WorldClosed("world.call");
    checkRanks("world.call", "rank", ranks, this.size);
    const deadline = deadlineMs ?? this.#settings.deadlineMs;
    checkMilliseconds("world.call", "deadlineMs", deadline);
    return this.#begin(method, ranks, deadline, (worker) => worker.invoke(method, args));
  }

  /** What every rank has done of late; see `World.flightRecord`. */
  flightRecord(): FlightRecord {
    return this.#groups.flightRecord(this.#status.worldTime());
  }

  /** Makes a new group; see `World.createGroup`. The call to follow, and what to do once it has succeeded. */
  createGroup(
    name: string,
    ranks: readonly number[],
    deadlineMs: number | undefined,
  ): { call: PendingCall; retireReplaced: () => Promise<void> } {
    const operation = "world.createGroup";
    if (this.#closing !== undefined) throw new WorldClosed(operation);
    checkRanks(operation, "ranks", ranks, this.size);
    const deadline = deadlineMs ?? this.#settings.deadlineMs;
    checkMilliseconds(operation, "deadlineMs", deadline);
    const replaced = this.#groups.named(name, ranks);
    const living = replaced.find((descriptor) => !this.#groups.isAborted(descriptor));
    if (living !== undefined) {
      const inUse = `"${name}", in use by ranks ${living.ranks.join(", ")}`;
      throw new ArgumentError(operation, "name", "the name of no living group of these ranks", inUse);
    }
    const descriptor = this.#groups.create(name, ranks);
    return {
      call: this.#begin(operation, ranks, deadline, (worker) => worker.join(descriptor)),
      retireReplaced: async () => {
        for (const old of replaced) await this.#retire(old, deadline);
      },
    };
  }

  /** Takes back the control block of a group, unless a rank that may still touch it is dead. */
  async #retire(descriptor: GroupDescriptor, deadlineMs: number): Promise<void> {
    const workers = descriptor.ranks.flatMap((rank) => this.#workers[rank] ?? []);
    if (workers.some((worker) => worker.death !== undefined)) return;
    const retire = (worker: RankWorker): Promise<Reply> => worker.retire(descriptor.generation);
    await this.#begin("world.createGroup", descriptor.ranks, deadlineMs, retire).promise;
    this.#groups.release(descriptor);
  }

  /** Ends one rank at once, as a crash would. */
  async terminateRank(rank: number, reason: string): Promise<void> {
    if (this.#closing !== undefined) throw new WorldClosed("world.terminateRank");
    checkRanks("world.terminateRank", "rank", [rank], this.size);
    const worker = this.#workers[rank];
    worker?.die(new RankCrashed(rank, reason));
    await worker?.terminate();
  }

  /** Invokes something on every one of `ranks` and follows it up until each has answered or died. */
  #begin(
    what: string,
    ranks: readonly number[],
    deadlineMs: number,
    invoke: (worker: RankWorker) => Promise<Reply>,
  ): PendingCall {
    const call = new PendingCall(what, ranks, deadlineMs, {
      abandon: (late, cause) => this.#groups.abort(late, cause),
      flightRecord: () => this.flightRecord(),
    });
    const forget = (): void => {
      this.#calls.delete(call);
    };
    this.#calls.add(call);
    call.promise.then(forget, forget);
    this.#liveness.watch(ranks);
    for (const rank of ranks) {
      const worker = this.#workers[rank];
      if (worker === undefined) continue;
      const invocation: Invocation = { rank, fail: (error) => this.#answer(invocation, () => call.fail(rank, error)) };
      this.#invocations.add(invocation);
      const failed = (error: unknown): void => {
        this.#hadFailure = true;
        invocation.fail(error instanceof Error ? error : new Error(String(error)));
      };
      if (worker.death !== undefined) failed(worker.death);
      else {
        invoke(worker).then((reply) => {
          if (!reply.ok) this.#hadFailure = true;
          this.#answer(invocation, () => call.reply(rank, reply));
        }, failed);
      }
    }
    return call;
  }

  #answer(invocation: Invocation, deliver: () => void): void {
    if (!this.#invocations.delete(invocation)) return;
    deliver();
    this.#liveness.unwatch(invocation.rank);
    if (this.#invocations.size > 0 || !this.#hadFailure) return;
    // Every rank has come out of every call: what failed in them does not concern the calls to come.
    this.#hadFailure = false;
    this.#status.nextEpoch();
  }

  #onDeath(rank: number, error: RankCrashed): void {
    this.#hadFailure = true;
    this.#status.exit(rank, error);
    this.#groups.abort([rank], error);
    for (const invocation of [...this.#invocations]) if (invocation.rank === rank) invocation.fail(error);
  }

  /** Ends the world. Idempotent. Rejects with {@link CloseFailed}, when everything is gone, if a callback failed. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const closed = new WorldClosed("world.call");
    for (const call of [...this.#calls]) call.endWith(closed);
    // Ranks that are still busy with a call that was given up: their silence is known.
    const busy = new Set([...this.#invocations].map(({ rank }) => rank));
    this.#groups.abort(this.ranks, new WorldClosed("collective"));
    const living = this.#workers.filter((worker) => worker.death === undefined).map(({ rank }) => rank);
    let failure: CloseFailed | undefined;
    if (living.length > 0) {
      const call = this.#begin("onClose", living, this.#settings.closeDeadlineMs, async (worker) => {
        await worker.ready;
        return worker.close();
      });
      await call.promise.catch((error: Error) => {
        if (error instanceof CallTimeout && error.ranks.every((rank) => busy.has(rank))) return;
        const rank: unknown = Reflect.get(error, "rank");
        failure = new CloseFailed(typeof rank === "number" ? [rank] : call.outstanding, error.message, error);
      });
    }
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
    for (const invocation of [...this.#invocations]) invocation.fail(closed);
    if (failure !== undefined) throw failure;
  }
}

/** Something asked of one rank and not answered yet. */
interface Invocation {
  readonly rank: number;
  readonly fail: (error: Error) => void;
}

function checkMilliseconds(operation: string, argument: string, value: number): void {
  if (!(value > 0) || value > LONGEST_TIMER_MS) {
    throw new ArgumentError(operation, argument, `milliseconds from 1 to ${LONGEST_TIMER_MS}`, String(value));
  }
}
