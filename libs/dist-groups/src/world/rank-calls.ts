import type { RankCrashed } from "../errors/errors.ts";
import type { Reply } from "../rank/rank-protocol.ts";
import { CALL_NUMBERS, type HostHealth } from "../transport/world-transport.ts";
import type { FlightRecord } from "../wire/flight-types.ts";
import { CallQueue, type Turn } from "./call-queue.ts";
import type { Liveness } from "./liveness.ts";
import { PendingCall } from "./pending-call.ts";
import type { RankWorker } from "./rank-worker.ts";

/** Asks one rank for something. `callWord`: where it says that it begins, if the call can be cancelled until then. */
export type Invoke = (worker: RankWorker, callWord: number | undefined) => Promise<Reply>;

/** What calls need of their world. */
export interface CallsOwner {
  readonly size: number;
  readonly health: HostHealth;
  readonly liveness: Liveness;
  readonly workers: readonly RankWorker[];
  /** Frees ranks that have not answered from their collectives. */
  abandon(ranks: readonly number[], cause: Error): void;
  /** What the ranks have done of late. */
  flightRecord(): FlightRecord;
}

/** Something asked of one rank and not answered yet. */
interface Invocation {
  readonly rank: number;
  readonly fail: (error: Error) => void;
}

/** A call on its way. */
interface Progress {
  started: boolean;
  /** Ranks that owe an answer. */
  owing: number;
  callWord?: number | undefined;
  turn?: Turn | undefined;
}

/**
 * Everything that the host has asked of ranks: in which order it starts, and what is not answered yet, given up or not.
 */
export class RankCalls {
  /** The program takes calls while others are under way. */
  concurrent = false;
  readonly #owner: CallsOwner;
  readonly #queue: CallQueue;
  readonly #calls = new Set<PendingCall>();
  readonly #invocations = new Set<Invocation>();
  readonly #freeCallWords = Array.from({ length: CALL_NUMBERS }, (_, word) => word);
  #hadFailure = false;

  constructor(owner: CallsOwner) {
    this.#owner = owner;
    this.#queue = new CallQueue(owner.size);
  }

  /** Asks every one of `ranks` at once, whatever else they do. */
  now(what: string, ranks: readonly number[], deadlineMs: number, invoke: Invoke): PendingCall {
    const progress: Progress = { started: false, owing: 0 };
    const call = this.#pending(what, ranks, deadlineMs, progress);
    call.startClock();
    this.#start(call, ranks, invoke, progress);
    return call;
  }

  /** Asks every one of `ranks` when the calls before it are over, or at once when the program is concurrent. */
  inTurn(what: string, ranks: readonly number[], deadlineMs: number, invoke: Invoke): PendingCall {
    // When all words are taken, a call cannot be cancelled once it has been posted; nothing else is lost.
    const progress: Progress = { started: false, owing: 0, callWord: this.#freeCallWords.pop() };
    const call = this.#pending(what, ranks, deadlineMs, progress);
    const start = (): void => {
      if (progress.callWord !== undefined) this.#owner.health.postCall(progress.callWord);
      this.#start(call, ranks, invoke, progress);
    };
    if (this.concurrent) {
      call.startClock();
      start();
      return call;
    }
    const startIdle = (): void => {
      for (const rank of ranks) this.#owner.health.forgive(rank);
      start();
    };
    progress.turn = this.#queue.add(ranks, () => call.startClock(), startIdle);
    this.#queue.advance();
    return call;
  }

  /** Ranks that owe an answer. */
  get busyRanks(): ReadonlySet<number> {
    return new Set([...this.#invocations].map(({ rank }) => rank));
  }

  /** Gives every call up. */
  interrupt(reason: string): void {
    for (const call of [...this.#calls]) call.interrupt(reason);
  }

  /** Ends every call with an error that is not about one rank. */
  endAll(error: Error): void {
    for (const call of [...this.#calls]) call.endWith(error);
  }

  /** Nobody will answer what is still asked. */
  forgetAll(error: Error): void {
    for (const invocation of [...this.#invocations]) invocation.fail(error);
  }

  /** A rank will answer nothing any more. */
  rankDied(rank: number, error: RankCrashed): void {
    this.#hadFailure = true;
    for (const invocation of [...this.#invocations]) if (invocation.rank === rank) invocation.fail(error);
  }

  #pending(what: string, ranks: readonly number[], deadlineMs: number, progress: Progress): PendingCall {
    const call: PendingCall = new PendingCall(what, ranks, deadlineMs, {
      cancel: () => this.#cancel(progress),
      busy: () => (progress.turn === undefined ? [] : this.#queue.busyBefore(progress.turn)),
      abandon: (late, cause) => this.#owner.abandon(late, cause),
      flightRecord: () => this.#owner.flightRecord(),
      settled: () => {
        this.#calls.delete(call);
        if (!progress.started) this.#freeWord(progress);
        if (progress.turn !== undefined) this.#queue.settled(progress.turn);
      },
    });
    this.#calls.add(call);
    return call;
  }

  #cancel({ started, callWord }: Progress): boolean {
    if (!started) return true;
    return callWord !== undefined && this.#owner.health.cancelCall(callWord);
  }

  #freeWord(progress: Progress): void {
    if (progress.callWord === undefined) return;
    this.#freeCallWords.push(progress.callWord);
    progress.callWord = undefined;
  }

  #start(call: PendingCall, ranks: readonly number[], invoke: Invoke, progress: Progress): void {
    const { liveness, workers } = this.#owner;
    const { callWord } = progress;
    progress.started = true;
    progress.owing = ranks.length;
    liveness.watch(ranks);
    for (const rank of ranks) {
      const worker = workers[rank];
      if (worker === undefined) continue;
      const answer = (deliver: () => void): void => {
        if (!this.#invocations.delete(invocation)) return;
        this.#answered(rank, progress, deliver);
      };
      const invocation: Invocation = { rank, fail: (error) => answer(() => call.fail(rank, error)) };
      this.#invocations.add(invocation);
      const failed = (error: unknown): void => {
        this.#hadFailure = true;
        invocation.fail(error instanceof Error ? error : new Error(String(error)));
      };
      if (worker.death !== undefined) failed(worker.death);
      else {
        invoke(worker, callWord).then((reply) => {
          if (!reply.ok) {
            this.#hadFailure = true;
            this.#owner.health.failed(rank);
          }
          answer(() => call.reply(rank, reply));
        }, failed);
      }
    }
  }

  #answered(rank: number, progress: Progress, deliver: () => void): void {
    const { liveness, health } = this.#owner;
    deliver();
    liveness.unwatch(rank);
    if (--progress.owing === 0) this.#freeWord(progress);
    if (this.#invocations.size === 0 && this.#hadFailure) {
      // Every rank has come out of every call: what failed in them does not concern the calls to come.
      this.#hadFailure = false;
      health.nextEpoch();
    }
    if (progress.turn !== undefined) this.#queue.cameOut(progress.turn, rank);
  }
}
