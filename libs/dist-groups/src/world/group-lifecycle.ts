import { ArgumentError } from "@lockstep/tensor";
import { CallInterrupted, GroupDestroyed } from "../errors/errors.ts";
import type { GroupDescriptor, Reply } from "../rank/rank-protocol.ts";
import { firedReason, onAbort } from "./follow-signal.ts";
import type { GroupRegistry } from "./group-registry.ts";
import type { RankCalls } from "./rank-calls.ts";
import type { RankWorker } from "./rank-worker.ts";

/** A group that took the place of an aborted one. */
export interface RenewedGroup {
  readonly name: string;
  /** Global ranks, in group order: those of the aborted one. */
  readonly ranks: readonly number[];
}

/** Makes, renews and ends groups while the world runs. A group that could not be made leaves nothing behind. */
export class GroupLifecycle {
  readonly #groups: GroupRegistry;
  readonly #calls: RankCalls;
  readonly #workers: readonly RankWorker[];

  constructor(groups: GroupRegistry, calls: RankCalls, workers: readonly RankWorker[]) {
    this.#groups = groups;
    this.#calls = calls;
    this.#workers = workers;
  }

  /** Makes a group of ranks, in place of aborted groups of the same name. */
  async create(
    operation: string,
    name: string,
    ranks: readonly number[],
    deadlineMs: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const fired = firedReason(signal);
    if (fired !== undefined) throw new CallInterrupted(operation, ranks, fired);
    const replaced = this.#groups.named(name, ranks);
    const living = replaced.find((descriptor) => !this.#groups.isAborted(descriptor));
    if (living !== undefined) {
      const inUse = `"${name}", in use by ranks ${living.ranks.join(", ")}`;
      throw new ArgumentError(operation, "name", "the name of no living group of these ranks", inUse);
    }
    const descriptor = this.#groups.create(name, ranks);
    let posted = false;
    const call = this.#calls.inTurn(operation, ranks, deadlineMs, (worker) => {
      posted = true;
      return worker.join(descriptor);
    });
    try {
      using _listening = onAbort(signal, (reason) => call.interrupt(reason));
      await call.promise;
    } catch (error) {
      this.#groups.abortGroup(descriptor, error instanceof Error ? error : new Error(String(error)));
      // Where a rank does not come back, the control block stays: it may still touch it.
      if (posted) this.#retire(operation, descriptor, deadlineMs).catch(() => undefined);
      else this.#groups.release(descriptor);
      throw error;
    }
    for (const old of replaced) await this.#retire(operation, old, deadlineMs);
  }

  /** Ends every group of that name. */
  async destroy(operation: string, name: string, ranks: readonly number[], deadlineMs: number): Promise<void> {
    const groups = this.#groups.named(name, ranks);
    if (name === "world" || groups.length === 0) {
      const expected = name === "world" ? "the name of another group" : "the name of a group";
      throw new ArgumentError(operation, "name", expected, `"${name}"`);
    }
    for (const descriptor of groups) {
      this.#groups.abortGroup(descriptor, new GroupDestroyed(name, "the host destroyed it"));
    }
    await Promise.all(groups.map((descriptor) => this.#retire(operation, descriptor, deadlineMs)));
  }

  /** Makes a new group in place of every aborted one whose ranks all live. */
  async renew(operation: string, deadlineMs: number, signal: AbortSignal | undefined): Promise<RenewedGroup[]> {
    const isAlive = (rank: number): boolean => this.#workers[rank]?.death === undefined;
    const aborted = this.#groups.aborted().filter(({ ranks }) => ranks.every(isAlive));
    const renewed = aborted.map(async ({ name, ranks }): Promise<RenewedGroup> => {
      await this.create(operation, name, ranks, deadlineMs, signal);
      return { name, ranks };
    });
    // All come out before the first failure is told.
    await Promise.allSettled(renewed);
    return Promise.all(renewed);
  }

  /** Takes back the control block of a group, unless a rank that may still touch it is dead. */
  async #retire(operation: string, descriptor: GroupDescriptor, deadlineMs: number): Promise<void> {
    const workers = descriptor.ranks.flatMap((rank) => this.#workers[rank] ?? []);
    if (workers.some((worker) => worker.death !== undefined)) return;
    const retire = (worker: RankWorker): Promise<Reply> => worker.retire(descriptor.generation);
    await this.#calls.now(operation, descriptor.ranks, deadlineMs, retire).promise;
    this.#groups.release(descriptor);
  }
}
