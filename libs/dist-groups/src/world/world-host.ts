import { ArgumentError, describe, type SharedHeap } from "@lockstep/tensor";
import {
  CallInterrupted,
  CallTimeout,
  CloseFailed,
  RankCrashed,
  WorldClosed,
  WorldStartFailed,
  asSentence,
} from "../errors/errors.ts";
import { isList, printedValue } from "../errors/printed-value.ts";
import { hostProcessOf } from "../rank/host-process.ts";
import type { StartedProgram } from "../rank/rank-protocol.ts";
import type { HostHealth } from "../transport/world-transport.ts";
import type { FlightRecord } from "../wire/flight-types.ts";
import { checkCopyable, checkGroupName, checkKeys, checkMilliseconds, checkRanks } from "./check-world-options.ts";
import { checkSignal, firedReason } from "./follow-signal.ts";
import { GroupLifecycle, type RenewedGroup } from "./group-lifecycle.ts";
import { GroupRegistry } from "./group-registry.ts";
import { Liveness } from "./liveness.ts";
import type { PendingCall } from "./pending-call.ts";
import { RankCalls } from "./rank-calls.ts";
import { hrefOf } from "../site/rank-thread.ts";
import { RankWorker } from "./rank-worker.ts";
import { type GroupOwner, WorldGroup } from "./world-group.ts";
import type { OpeningWorld } from "./world-options.ts";
import type { WorldSettings } from "../site/world-settings.ts";
import type { WorldSite } from "../site/world-site.ts";
import type { AbortSignalLike } from "./abort-signal-like.ts";

/** Options of whatever the host asks of ranks. */
export interface HostCallOptions {
  readonly deadlineMs?: number | undefined;
  readonly signal?: AbortSignalLike | undefined;
}

/**
 * Owns a world: its memory, its workers, its groups, the calls in flight. Plain promises; `world.ts` is the public
 * face.
 */
export class WorldHost implements AsyncDisposable, GroupOwner {
  readonly size: number;
  /** Every rank. */
  readonly ranks: readonly number[];
  /** Ranks of each process, this one's first. */
  readonly processes: readonly (readonly number[])[];
  readonly heap: SharedHeap;
  readonly #settings: WorldSettings;
  readonly #site: WorldSite;
  readonly #groups: GroupRegistry;
  readonly #health: HostHealth;
  readonly #liveness: Liveness;
  readonly #workers: RankWorker[] = [];
  readonly #calls: RankCalls;
  readonly #lifecycle: GroupLifecycle;
  #interruption: string | undefined;
  #closing: Promise<void> | undefined;

  constructor(settings: WorldSettings, site: WorldSite) {
    const { size, deadlineMs } = settings;
    this.#site = site;
    this.size = size;
    this.ranks = Array.from({ length: size }, (_, rank) => rank);
    this.processes = site.processes;
    this.#settings = settings;
    this.heap = site.heap;
    this.#health = site.transport.health;
    this.#groups = new GroupRegistry(site.transport, deadlineMs, site.stagedLimits);
    this.#liveness = new Liveness(this.#health, (rank, error) => this.#workers[rank]?.die(error));
    this.#calls = new RankCalls({
      size,
      health: this.#health,
      liveness: this.#liveness,
      workers: this.#workers,
      abandon: (late, cause) => this.#groups.abort(late, cause),
      flightRecord: () => this.#groups.flightRecord(this.#health.worldTime(performance.now())),
    });
    this.#lifecycle = new GroupLifecycle(this.#groups, this.#calls, this.#workers);
    this.#groups.create("world", this.ranks);
    for (const [name, partition] of Object.entries(settings.groups)) {
      for (const ranks of partition) this.#groups.create(name, ranks);
    }
  }

  /** Starts every rank: worker, program, `setup`. On failure the caller disposes of the world. */
  async start(): Promise<void> {
    await this.#site.prepare();
    this.checkOpen("openWorld");
    if (this.#interruption !== undefined) throw new CallInterrupted("openWorld", this.ranks, this.#interruption);
    const options = this.#rankOptions();
    for (const rank of this.ranks) {
      this.#workers.push(this.#startWorker(rank));
    }
    const { program, startDeadlineMs } = this.#settings;
    const call = this.#calls.now("setup", this.ranks, startDeadlineMs, async (worker) => {
      await worker.ready;
      return worker.start({
        rank: worker.rank,
        size: this.size,
        hostProcess: hostProcessOf(worker.rank, this.processes),
        groups: this.#groups.of(worker.rank),
        program: program === undefined ? undefined : hrefOf(program),
        options,
      });
    });
    const started = await call.promise.catch((error: unknown) => {
      throw this.#startFailure(error, call.outstanding);
    });
    this.#calls.concurrent = started.some((program) => (program as StartedProgram).concurrent);
  }

  /** What every `setup` is given. */
  #rankOptions(): unknown {
    const { options } = this.#settings;
    if (typeof options !== "function") return options;
    const { size, heap, processes } = this;
    const opening: OpeningWorld = { size, heap, processes };
    const made: unknown = options(opening);
    checkCopyable(made);
    return made;
  }

  #startWorker(rank: number): RankWorker {
    try {
      const worker = this.#site.startWorker(rank);
      const heartbeat = (): number => this.#health.heartbeat(rank);
      return new RankWorker(rank, worker, (error) => this.#onDeath(rank, error), heartbeat);
    } catch (error) {
      if (error instanceof ArgumentError) throw error;
      throw new WorldStartFailed([rank], `its worker could not be started: ${printedValue(error)}`, error);
    }
  }

  #startFailure(error: unknown, late: readonly number[]): Error {
    if (error instanceof WorldClosed || error instanceof CallInterrupted) return error;
    const cause = error instanceof Error ? error : new Error(printedValue(error));
    const rank: unknown = Reflect.get(cause, "rank");
    const failed = typeof rank === "number" ? [rank] : late;
    const unready = failed.filter((rank) => this.#workers[rank]?.isReady === false);
    const advice = unready.length > 0 ? this.#startAdvice : "";
    // Closing the world does not wait for them.
    for (const rank of unready) this.#workers[rank]?.die(new RankCrashed(rank, "its worker was never ready"));
    return new WorldStartFailed(failed, `${asSentence(cause.message)}${advice}`, cause);
  }

  /** What to do about a worker that was never ready. */
  get #startAdvice(): string {
    return this.#settings.worker === undefined
      ? " Its worker was not ready: in a bundle the library's own worker is missing, so give openWorld a `worker`."
      : " Its worker was not ready: its module has to call runRank of @lockstep/dist-groups/rank while it is run.";
  }

  /** Gives up a start that is under way. */
  interrupt(reason: string): void {
    this.#interruption = reason;
    this.#calls.interrupt(reason);
  }

  /** Calls a method on some ranks, after the calls that they were given before. */
  call(method: string, ranks: readonly number[], args: readonly unknown[], options: HostCallOptions = {}): PendingCall {
    const deadlineMs = this.#check("world.call", options);
    checkRanks("world.call", "rank", ranks, this.size);
    if (typeof method !== "string") throw new ArgumentError("world.call", "method", "a text", describe(method));
    if (!isList(args)) throw new ArgumentError("world.call", "args", "a list", describe(args));
    const fired = firedReason(options.signal);
    if (fired !== undefined) throw new CallInterrupted(method, ranks, fired);
    return this.#calls.inTurn(method, ranks, deadlineMs, (worker, callWord) => worker.invoke(method, args, callWord));
  }

  /** What every rank has done of late; see `World.flightRecord`. */
  flightRecord(): FlightRecord {
    this.checkOpen("world.flightRecord");
    return this.#groups.flightRecord(this.#health.worldTime(performance.now()));
  }

  /** Makes a new group; see `World.createGroup`. */
  async createGroup(name: string, ranks: readonly number[], options: HostCallOptions = {}): Promise<WorldGroup> {
    const operation = "world.createGroup";
    const deadlineMs = this.#check(operation, options);
    checkGroupName(operation, name);
    checkRanks(operation, "ranks", ranks, this.size);
    const origin = await this.#lifecycle.create(operation, name, ranks, deadlineMs, options.signal);
    return new WorldGroup(name, [...ranks], origin, this);
  }

  /** Closes a group for good; see `WorldGroup.close`. */
  async closeGroup(origin: number, options: Pick<HostCallOptions, "deadlineMs"> = {}): Promise<void> {
    if (this.#closing === undefined) {
      const deadlineMs = this.#check("group.close", options);
      try {
        return await this.#lifecycle.close("group.close", origin, deadlineMs);
      } catch (error) {
        if (!(error instanceof WorldClosed)) throw error;
      }
    }
    // The world gives everything back; who closes it is told how that went.
    await this.#closing?.catch(() => undefined);
  }

  /** Ends groups for good; see `World.destroyGroup`. */
  async destroyGroup(name: string, options: HostCallOptions = {}): Promise<void> {
    const deadlineMs = this.#check("world.destroyGroup", options);
    checkGroupName("world.destroyGroup", name);
    await this.#lifecycle.destroy("world.destroyGroup", name, this.ranks, deadlineMs);
  }

  /** New groups in place of aborted ones; see `World.renewGroups`. */
  async renewGroups(options: HostCallOptions = {}): Promise<RenewedGroup[]> {
    const deadlineMs = this.#check("world.renewGroups", options);
    return this.#lifecycle.renew("world.renewGroups", deadlineMs, options.signal);
  }

  /** Throws unless the world is open and the options are right. The deadline. */
  #check(operation: string, options: HostCallOptions): number {
    this.checkOpen(operation);
    checkKeys(operation, "options", options, ["deadlineMs", "signal"]);
    const { deadlineMs = this.#settings.deadlineMs, signal } = options;
    checkMilliseconds(operation, "deadlineMs", deadlineMs);
    checkSignal(operation, signal);
    return deadlineMs;
  }

  /** Throws unless the world is open. */
  checkOpen(operation: string): void {
    if (this.#closing !== undefined) throw new WorldClosed(operation);
  }

  /** Ends one rank at once, as a crash would. */
  async terminateRank(rank: number, reason: string): Promise<void> {
    this.checkOpen("world.terminateRank");
    checkRanks("world.terminateRank", "rank", [rank], this.size);
    const worker = this.#workers[rank];
    worker?.die(new RankCrashed(rank, reason));
    await worker?.end();
  }

  #onDeath(rank: number, error: RankCrashed): void {
    this.#health.exit(rank, error);
    this.#groups.abort([rank], error);
    this.#calls.rankDied(rank, error);
  }

  /**
   * Ends the world and gives back all that it took; nothing else does. Idempotent. Rejects with {@link CloseFailed},
   * when everything is gone, if a callback failed.
   */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#calls.endAll(new WorldClosed("world.call"));
    // Ranks that are still busy with a call that was given up: their silence is known.
    const busy = this.#calls.busyRanks;
    this.#groups.abort(this.ranks, new WorldClosed("collective"));
    const living = this.#workers.filter((worker) => worker.death === undefined).map(({ rank }) => rank);
    let failure: CloseFailed | undefined;
    if (living.length > 0) {
      const call = this.#calls.now("onClose", living, this.#settings.closeDeadlineMs, async (worker) => {
        await worker.ready;
        return worker.close();
      });
      await call.promise.catch((error: Error) => {
        if (error instanceof CallTimeout && error.ranks.every((rank) => busy.has(rank))) return;
        const rank: unknown = Reflect.get(error, "rank");
        failure = new CloseFailed(typeof rank === "number" ? [rank] : call.outstanding, error.message, error);
      });
    }
    // No rank is asked anything any more.
    this.#health.close();
    try {
      await Promise.all(
        this.#workers.map((worker) => (worker.death === undefined ? worker.terminate() : worker.end())),
      );
      await this.#site.close();
    } finally {
      this.#calls.forgetAll(new WorldClosed("world.call"));
    }
    if (failure !== undefined) throw failure;
  }
}
