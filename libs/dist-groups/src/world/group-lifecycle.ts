import { ArgumentError } from "@lockstep/tensor";
import { CallInterrupted, GroupDestroyed } from "../errors/errors.ts";
import type { GroupDescriptor, Reply } from "../rank/rank-protocol.ts";
import { firedReason, onAbort } from "./follow-signal.ts";
import type { GroupRegistry } from "./group-registry.ts";
import type { PendingCall } from "./pending-call.ts";
import type { RankCalls } from "./rank-calls.ts";
import type { RankWorker } from "./rank-worker.ts";
import type { AbortSignalLike } from "./abort-signal-like.ts";

/** A group that took the place of an aborted one. */
export interface RenewedGroup {
  /** Name of the group. */
  readonly name: string;
  /** Global ranks, in group order: those of the aborted one. */
  readonly ranks: readonly number[];
}

/** A group that is being made. */
interface Making {
  readonly call: PendingCall;
  /** Its ranks have been asked to join it. */
  readonly isAsked: boolean;
}

/**
 * Makes, renews and closes groups while the world runs. What a group holds is given back by `#close` alone, also when
 * it could not be made.
 */
export class GroupLifecycle {
  readonly #groups: GroupRegistry;
  readonly #calls: RankCalls;
  readonly #workers: readonly RankWorker[];
  /** Groups that their ranks have not all joined. */
  readonly #making = new Map<GroupDescriptor, Making>();

  constructor(groups: GroupRegistry, calls: RankCalls, workers: readonly RankWorker[]) {
    this.#groups = groups;
    this.#calls = calls;
    this.#workers = workers;
  }

  /**
   * Makes a group of ranks, in place of aborted groups of the same name. `origin`: that of the group that it renews.
   * Returns its origin.
   */
  async create(
    operation: string,
    name: string,
    ranks: readonly number[],
    deadlineMs: number,
    signal: AbortSignalLike | undefined,
    origin?: number,
  ): Promise<number> {
    const fired = firedReason(signal);
    if (fired !== undefined) throw new CallInterrupted(operation, ranks, fired);
    const replaced = this.#groups.named(name, ranks);
    const living = replaced.find((descriptor) => !this.#groups.isAborted(descriptor));
    if (living !== undefined) {
      const inUse = `"${name}", in use by ranks ${living.ranks.join(", ")}`;
      throw new ArgumentError(operation, "name", "the name of no living group of these ranks", inUse);
    }
    const descriptor = this.#groups.create(name, ranks, origin);
    let isAsked = false;
    const call = this.#calls.inTurn(operation, ranks, deadlineMs, (worker) => {
      isAsked = true;
      return worker.join(descriptor);
    });
    this.#making.set(descriptor, {
      call,
      get isAsked() {
        return isAsked;
      },
    });
    try {
      using _listening = onAbort(signal, (reason) => call.interrupt(reason));
      await call.promise;
    } catch (error) {
      this.#groups.abortGroup(descriptor, error instanceof Error ? error : new Error(String(error)));
      // In the background: who gave up does not wait for ranks that are busy.
      this.#close(operation, descriptor, deadlineMs).catch(() => undefined);
      throw error;
    } finally {
      this.#making.delete(descriptor);
    }
    for (const old of replaced) await this.#close(operation, old, deadlineMs, "replaced");
    return origin ?? descriptor.generation;
  }

  /** Closes every group of that name. */
  async destroy(operation: string, name: string, ranks: readonly number[], deadlineMs: number): Promise<void> {
    const groups = this.#groups.named(name, ranks);
    if (name === "world" || groups.length === 0) {
      const expected = name === "world" ? "the name of another group" : "the name of a group";
      throw new ArgumentError(operation, "name", expected, `"${name}"`);
    }
    await this.#closeAll(operation, groups, deadlineMs);
  }

  /** Closes every group of that origin. */
  async close(operation: string, origin: number, deadlineMs: number): Promise<void> {
    await this.#closeAll(operation, this.#groups.ofOrigin(origin), deadlineMs);
  }

  /** Makes a new group in place of every aborted one whose ranks all live. */
  async renew(operation: string, deadlineMs: number, signal: AbortSignalLike | undefined): Promise<RenewedGroup[]> {
    const isAlive = (rank: number): boolean => this.#workers[rank]?.death === undefined;
    const aborted = this.#groups.aborted().filter(({ ranks }) => ranks.every(isAlive));
    const renewed = aborted.map(async (descriptor): Promise<RenewedGroup> => {
      const { name, ranks } = descriptor;
      await this.create(operation, name, ranks, deadlineMs, signal, this.#groups.originOf(descriptor));
      return { name, ranks };
    });
    // All come out before the first failure is told.
    await Promise.allSettled(renewed);
    return Promise.all(renewed);
  }

  async #closeAll(operation: string, groups: readonly GroupDescriptor[], deadlineMs: number): Promise<void> {
    for (const descriptor of groups) {
      this.#groups.abortGroup(descriptor, new GroupDestroyed(descriptor.name, "the host closed it"));
      // From now on no rank is asked to join it that has not been.
      this.#making.get(descriptor)?.call.interrupt(`group "${descriptor.name}" was closed`);
    }
    await Promise.all(groups.map((descriptor) => this.#close(operation, descriptor, deadlineMs)));
  }

  /**
   * Has the ranks of an aborted group end their part in it, then takes its control block back: when the last has
   * answered, be it after the deadline. Where a rank is dead the block stays, which the rank may still touch. The ranks
   * of one that could not be made may not have been asked, and never will be.
   */
  async #close(
    operation: string,
    descriptor: GroupDescriptor,
    deadlineMs: number,
    because: "closed" | "replaced" = "closed",
  ): Promise<void> {
    const { ranks, generation } = descriptor;
    if (this.#making.get(descriptor)?.isAsked === false) return this.#groups.release(descriptor);
    if (ranks.some((rank) => this.#workers[rank]?.death !== undefined)) return;
    const answers: Promise<Reply>[] = [];
    const call = this.#calls.now(operation, ranks, deadlineMs, (worker) => {
      const answer = worker.leaveGroup(generation, because);
      answers.push(answer);
      return answer;
    });
    const released = Promise.all(answers).then(
      (replies) => {
        if (replies.every(({ ok }) => ok)) this.#groups.release(descriptor);
      },
      () => undefined,
    );
    await call.promise;
    await released;
  }
}
