import { LockstepError } from "@lockstep/tensor";
import {
  CallInterrupted,
  CallTimeout,
  CollectiveMismatch,
  CollectiveTimeout,
  GroupAborted,
  RankCrashed,
} from "../errors/errors.ts";
import { fromPlainError } from "../errors/plain-error.ts";
import { attachFlightRecord } from "../flight-record/flight-record.ts";
import type { Reply } from "../rank/rank-protocol.ts";
import type { FlightRecord } from "../wire/flight-types.ts";

/**
 * Once a rank has failed, how long the others get to come out of the call, so that the cause can be told from its
 * effects.
 */
const GRACE_MS = 1_000;

/** What a call needs of its world. */
export interface CallOwner {
  /** Cancels the call unless it has begun on some rank. True when it will begin on none. */
  cancel(): boolean;
  /** Ranks that are still inside earlier calls, for a call that has not started. */
  busy(): readonly number[];
  /** The call has its outcome. */
  settled(): void;
  /** Frees ranks that have not answered from their collectives. */
  abandon(ranks: readonly number[], cause: Error): void;
  /** What the ranks have done of late. */
  flightRecord(): FlightRecord;
}

/**
 * One call on some ranks. It settles when every rank has answered, when the deadline passes, when it is interrupted, or
 * {@link GRACE_MS} after the first failure. Ranks that have not answered by then are handed to the owner's `abandon`,
 * which frees them from their collectives; unless none has begun the call, which then is cancelled without a trace. A
 * timeout takes the flight record with it as it is when the host learns of it.
 */
export class PendingCall {
  readonly promise: Promise<unknown[]>;
  readonly #method: string;
  readonly #ranks: readonly number[];
  readonly #outstanding: Set<number>;
  readonly #values = new Map<number, unknown>();
  readonly #failures = new Map<number, Error>();
  readonly #owner: CallOwner;
  readonly #settle: PromiseWithResolvers<unknown[]>;
  readonly #deadlineMs: number;
  #deadline: ReturnType<typeof setTimeout> | undefined;
  #grace: ReturnType<typeof setTimeout> | undefined;
  /** Taken when the first timeout became known. */
  #record: FlightRecord | undefined;
  #settled = false;

  constructor(method: string, ranks: readonly number[], deadlineMs: number, owner: CallOwner) {
    this.#method = method;
    this.#ranks = ranks;
    this.#outstanding = new Set(ranks);
    this.#owner = owner;
    this.#settle = Promise.withResolvers<unknown[]>();
    this.promise = this.#settle.promise;
    this.#deadlineMs = deadlineMs;
  }

  /** From now on the deadline counts. */
  startClock(): void {
    const late = (): void => this.#giveUp(new CallTimeout(this.#method, this.outstanding, this.#deadlineMs));
    if (!this.#settled) this.#deadline = setTimeout(late, this.#deadlineMs);
  }

  /** Ranks that have not answered. */
  get outstanding(): readonly number[] {
    return [...this.#outstanding];
  }

  get isSettled(): boolean {
    return this.#settled;
  }

  /** A rank answered. */
  reply(rank: number, reply: Reply): void {
    if (reply.ok) {
      this.#values.set(rank, reply.value);
      this.#answered(rank);
    } else this.fail(rank, this.#rankError(rank, fromPlainError(reply.error)));
  }

  /** A rank will not answer. */
  fail(rank: number, error: Error): void {
    if (!this.#outstanding.has(rank)) return;
    if (!this.#settled && error instanceof CollectiveTimeout && this.#record === undefined) {
      this.#record = this.#owner.flightRecord();
    }
    this.#failures.set(rank, error);
    this.#answered(rank);
  }

  interrupt(reason: string): void {
    this.#giveUp(new CallInterrupted(this.#method, this.outstanding, reason));
  }

  /** Ends the call with an error that is not about one rank. */
  endWith(error: Error): void {
    this.#giveUp(error);
  }

  #answered(rank: number): void {
    this.#outstanding.delete(rank);
    if (this.#settled) return;
    if (this.#outstanding.size === 0) this.#finish(this.#rootFailure());
    else if (this.#failures.size > 0) this.#grace ??= setTimeout(() => this.#giveUp(this.#rootFailure()), GRACE_MS);
  }

  #giveUp(error: Error | undefined): void {
    if (this.#settled || error === undefined) return;
    const busy = this.#owner.busy();
    if (this.#owner.cancel()) {
      const late = busy.length > 0 ? busy : this.outstanding;
      const isLate = error instanceof CallTimeout;
      this.#finish(isLate ? new CallTimeout(this.#method, late, this.#deadlineMs, false) : error);
      return;
    }
    // What a rank has reported already says more than that others did not return.
    const cause = error instanceof CallTimeout ? (this.#rootFailure() ?? error) : error;
    if (cause instanceof CallTimeout) this.#record = this.#owner.flightRecord();
    this.#owner.abandon(this.outstanding, cause);
    this.#finish(cause);
  }

  #finish(error: Error | undefined): void {
    this.#settled = true;
    clearTimeout(this.#deadline);
    clearTimeout(this.#grace);
    if (this.#record !== undefined && (error instanceof CollectiveTimeout || error instanceof CallTimeout)) {
      attachFlightRecord(error, this.#record, error instanceof CallTimeout ? error.ranks : error.missing);
    }
    if (error !== undefined) this.#settle.reject(error);
    else this.#settle.resolve(this.#ranks.map((rank) => this.#values.get(rank)));
    this.#owner.settled();
  }

  /**
   * Typed errors stay what they are and learn their rank; anything else that a method throws is a crash of its rank.
   */
  #rankError(rank: number, error: Error): Error {
    if (!(error instanceof LockstepError)) {
      return new RankCrashed(rank, `${this.#method} threw ${error.name}: ${error.message}`, error);
    }
    if (!("rank" in error) && consequence(error) === 0)
      Object.defineProperty(error, "rank", { value: rank, enumerable: true });
    return error;
  }

  /** The failure that the others follow from; of the lowest rank among equals. */
  #rootFailure(): Error | undefined {
    const ordered = [...this.#failures].sort(([a, x], [b, y]) => consequence(x) - consequence(y) || a - b);
    return ordered[0]?.[1];
  }
}

/** How far down the chain of consequences an error stands: 0 for a cause, more for what follows from one. */
function consequence(error: Error): number {
  if (error instanceof GroupAborted) return 3;
  if (error instanceof CollectiveTimeout) return 2;
  return error instanceof CollectiveMismatch ? 1 : 0;
}
