// What the transport of a world offers beside its groups: how the host makes and ends them, and how host and ranks know
// about each other's health and the time.

import type { PlainError } from "../errors/plain-error.ts";
import type { WorldClock } from "../flight-record/flight-ring.ts";
import type { Transport } from "./transport.ts";

/** Calls under way that can be told from those that have begun: from 0 to this, each has a number. */
export const CALL_NUMBERS = 256;

/** The host's end. */
export interface HostTransport {
  readonly health: HostHealth;
  /** Makes what a group of global ranks goes through. */
  open(ranks: readonly number[]): HostGroup;
  /**
   * What a rank has to know before the host's next message to it, or undefined; another object when it has changed.
   * Plain data.
   */
  readonly news: object | undefined;
}

/** The host's end of one group. */
export interface HostGroup {
  /** What a rank needs to join. Plain data. */
  readonly place: unknown;
  readonly isAborted: boolean;
  /** Aborts the group in the host's name. */
  abort(cause: Error): void;
  /** Where the flight rings lie: `flightRing` is the first word of the ring of a place in the group. */
  readonly words: Int32Array;
  readonly flightRing: (place: number) => number;
  /** Gives everything back. Only when no rank will touch it any more. */
  release(): void;
}

/** A rank's end. */
export interface RankTransport {
  readonly health: RankHealth;
  /** This rank's end of a group that it belongs to. `place` is what the host's end of it says. */
  join(ranks: readonly number[], place: unknown): Transport;
  /** Takes what the host's end tells of itself before the host's next message: see {@link HostTransport.news}. */
  hear(news: unknown): void;
}

interface Health extends WorldClock {
  /** It will never take part again: a rank, or the host for a rank that is gone. */
  exit(rank: number, error: unknown): void;
  hasExited(rank: number): boolean;
}

/**
 * What a rank tells, and asks. A rank whose method throws does not abort its groups at once: every rank may have
 * refused the same bad argument, and then nobody waits. It marks itself as having left; a peer that is waiting for it,
 * or comes to wait for it before the host's next epoch, aborts the group in its name.
 */
export interface RankHealth extends Health {
  readonly isClosed: boolean;
  /** It failed and will not take part in what its peers are doing. Only the first failure of an epoch counts. */
  leave(rank: number, error: unknown): void;
  /** Begins a call. False when the host cancelled it: then no rank begins it. */
  beginCall(call: number): boolean;
  /** A call began or ended (+1, -1). */
  countRunning(rank: number, change: number): void;
  /** Its event loop turns. */
  beat(rank: number): void;
}

/** What the host tells, and asks. */
export interface HostHealth extends Health {
  /** The world is gone. */
  close(): void;
  /** Sets the coarse clock. */
  tick(): void;
  /** Forgets failures of earlier calls. Only while no call is in flight. */
  nextEpoch(): void;
  /** A rank has answered that it failed. What it told its peers before may come later. */
  failed(rank: number): void;
  /** Forgets that a rank left. Only while it is in no call, and nobody waits for what it left. */
  forgive(rank: number): void;
  /** Why a rank exited, or else why it left. */
  failure(rank: number): PlainError;
  /** A call is about to be posted to its ranks. */
  postCall(call: number): void;
  /** Cancels a call that no rank has begun. False when one has. */
  cancelCall(call: number): boolean;
  heartbeat(rank: number): number;
  /** Calls that a rank is running. */
  running(rank: number): number;
}
