import type { SharedHeap } from "@lockstep/tensor";
import type {
  MethodArguments,
  MethodName,
  MethodResult,
  MethodsOf,
  Program,
  UntypedProgram,
} from "../rank/rank-context.ts";
import { joinJob } from "../job/join-job.ts";
import type { FlightRecord } from "../wire/flight-types.ts";
import { onAbort } from "./follow-signal.ts";
import type { RenewedGroup } from "./group-lifecycle.ts";
import { WorldHost } from "./world-host.ts";
import type { WorldGroup } from "./world-group.ts";
import type { CallOptions, WorldOptions } from "./world-options.ts";
import { openSite } from "./open-site.ts";
import { settingsOf } from "./settings-of.ts";

/**
 * N ranks, each a Web Worker, over one shared memory. `M` are the methods of the program they run.
 *
 * A call runs a method on every rank (or on one) and settles when all have answered. When a rank fails, the call
 * rejects with the first cause: a typed error that a method threw keeps its type and gets a `rank`; any other throw, an
 * exit or an unhandled rejection is `RankCrashed`. A call that misses its deadline is `CallTimeout`, an interrupted one
 * `CallInterrupted`; both abort the groups of the ranks that have not answered, which frees these from their
 * collectives; a call that has not begun on any rank is cancelled without harm.
 *
 * Calls on one rank run one after another, in the order in which they are made: a call starts on its ranks when earlier
 * calls that share a rank with it are over. A program that takes calls while others are under way says `export const
 * concurrent = true`.
 */
export class World<M = MethodsOf<UntypedProgram>> implements AsyncDisposable {
  readonly #host: WorldHost;

  /** Use {@link openWorld}. */
  constructor(host: WorldHost) {
    this.#host = host;
  }

  /** Number of ranks. */
  get size(): number {
    return this.#host.size;
  }

  /**
   * The ranks of each process, in ascending order. The host's own process is the first, and rank 0 is always in it.
   * Ranks of one process share a memory.
   */
  get processes(): readonly (readonly number[])[] {
    return this.#host.processes;
  }

  /**
   * The host's own range of the memory of its process: what is allocated here the ranks of `processes[0]` can read, and
   * no others.
   */
  get heap(): SharedHeap {
    this.#host.checkOpen("world.heap");
    return this.#host.heap;
  }

  /** Calls a method with the same arguments on every rank; results in rank order. */
  call<K extends MethodName<M>>(
    method: K,
    args: MethodArguments<M, K>,
    options?: CallOptions,
  ): Promise<MethodResult<M, K>[]> {
    return this.#promise<K>(this.#host.ranks, method, args, options);
  }

  /** Calls a method on one rank. */
  async callRank<K extends MethodName<M>>(
    rank: number,
    method: K,
    args: MethodArguments<M, K>,
    options?: CallOptions,
  ): Promise<MethodResult<M, K>> {
    const [result] = await this.#promise<K>([rank], method, args, options);
    return result as MethodResult<M, K>;
  }

  /**
   * What every rank has done of late, per group: its last 256 collectives, the oldest first. Reads shared memory, so it
   * works while ranks are stuck or gone, and nobody notices. `formatFlightRecord` makes a table of it.
   */
  flightRecord(): FlightRecord {
    return this.#host.flightRecord();
  }

  /**
   * Makes a new group of living ranks, in the given order; on these ranks `context.group(name)` returns it from then
   * on. The name may be one of aborted groups, "world" included, which it takes the
   * place of. The group lives until what is returned is disposed of or closed, or with the world:
   * `await using pair = await world.createGroup("pair", [0, 1])`.
   */
  createGroup(name: string, ranks: readonly number[], options?: CallOptions): Promise<WorldGroup> {
    return this.#host.createGroup(name, ranks, options);
  }

  /**
   * Closes every group of that name, as {@link WorldGroup.close} does for one. The group "world" cannot be destroyed.
   */
  async destroyGroup(name: string, options?: CallOptions): Promise<void> {
    await this.#host.destroyGroup(name, options);
  }

  /**
   * The way back after an aborted collective (a signal, a timeout, a mismatch, a throw): makes a new group with the
   * same name and ranks in place of every aborted one whose ranks all live, "world" included, and returns them. The
   * ranks keep all their state: their heap, their tensors, what the program keeps. On them `context.world` and
   * `context.group(name)` are the new groups from then on; handles of the old ones stay aborted, so a program takes
   * them anew. Waits for the ranks to come out of the call that failed. Groups of dead ranks stay aborted:
   * `createGroup` makes one over the ranks that are left.
   */
  async renewGroups(options?: CallOptions): Promise<readonly RenewedGroup[]> {
    return this.#host.renewGroups(options);
  }

  /**
   * Ends one rank at once, as a crash would: its groups abort, calls that wait for it reject with `RankCrashed`. For a
   * rank that does not come back, and for testing how a program takes a crash. One that still answers runs its
   * `onClose` callbacks before its worker ends, as a GPU's device must be closed by then. In Deno a worker that loops
   * in user code cannot be stopped: it no longer counts, but it keeps its core until the process exits.
   */
  terminateRank(rank: number): Promise<void> {
    return this.#host.terminateRank(rank, "the host terminated it");
  }

  /**
   * Ends the world: aborts what is going on, awaits every rank's `onClose` callbacks, ends the workers. Idempotent.
   * When a callback failed, rejects with `CloseFailed` after everything is gone.
   */
  close(): Promise<void> {
    return this[Symbol.asyncDispose]();
  }

  /** What {@link World.close} does. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#host[Symbol.asyncDispose]();
  }

  async #promise<K extends MethodName<M>>(
    ranks: readonly number[],
    method: K,
    args: MethodArguments<M, K>,
    options: CallOptions | undefined,
  ): Promise<MethodResult<M, K>[]> {
    const call = this.#host.call(method, ranks, args, options);
    using _listening = onAbort(options?.signal, (reason) => call.interrupt(reason));
    return (await call.promise) as MethodResult<M, K>[];
  }
}

/** Opens a world: `await using world = await openWorld({ ... })`. One that does not open leaves nothing behind. */
export async function openWorld<P extends Program = UntypedProgram>(
  options: WorldOptions<P>,
): Promise<World<MethodsOf<P>>> {
  const settings = settingsOf(options);
  await joinJob();
  const host = new WorldHost(settings, openSite(settings));
  try {
    using _listening = onAbort(options.signal, (reason) => host.interrupt(reason));
    await host.start();
  } catch (error) {
    // The first error is the one to tell, whatever happens while cleaning up.
    await host[Symbol.asyncDispose]().catch(() => undefined);
    throw error;
  }
  return new World<MethodsOf<P>>(host);
}
