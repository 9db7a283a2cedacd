// What carries a process group: one rank's end of one group, which moves bytes and knows no collective.
//
// Ranks go in rounds. In a round a rank announces something and publishes, or gives and takes slices of tensors; and
// waits until every peer has come as many rounds. An announcement is a header and a staging area: small messages, and
// records of the tensors of large ones (wire/). The announcements of all ranks lie in `words`, where every rank finds
// those of its peers once they have arrived.
//
// Announcements alternate between two places with the collectives. A rank that is in collective s has seen every peer
// arrive at s, so every peer has left s - 1: what it will write for s + 1 goes where s - 1 was, which nobody reads any
// more.
//
// Agreement, deadlines, what an abort means, records and arithmetic are above (group/collective-run.ts, collectives/).

/** Longest time in which a rank that waits does not look at its peers' health and its deadline, in milliseconds. */
export const SLICE_MS = 50;

/** Axis of a slice that is the whole tensor. */
export const WHOLE = -1;
/** Axis of a slice of the elements of a contiguous tensor in a row. */
export const FLAT = -2;

/** Where ranks cannot read each other's tensors: both sides say which slices travel. */
export interface SliceExchange {
  /**
   * A peer takes a slice of the tensor of a record in this rank's staging area: `count` indexes of dimension `axis`
   * from `start` on. With {@link WHOLE}, all of it; with {@link FLAT}, `count` elements. It goes out by the next
   * {@link SliceExchange.exchange} at the latest.
   */
  give(peer: number, record: number, axis: number, start: number, count: number): void;
  /**
   * The other end of {@link give}: both sides derive the same slice, in the same order. `record` lies in the peer's
   * staging area. Once the peer has arrived, address and strides of the record lead to the slice's elements, as if all
   * of the tensor were there.
   */
  take(peer: number, record: number, axis: number, start: number, count: number): void;
  /** {@link give} to every peer, of the same slice: it need not travel more often than there are memories. */
  share(record: number, axis: number, start: number, count: number): void;
  /** The other end of {@link share}: every rank but the peer takes that slice. */
  takeShared(peer: number, record: number, axis: number, start: number, count: number): void;
  /**
   * Ends this rank's part of a round in which slices move and nothing is announced. Never waits. A peer has arrived
   * once all that it gave is here and all that was given to it is taken; one with which nothing is exchanged has
   * arrived.
   */
  exchange(): void;
}

export interface Transport {
  /** This rank's place in the group. */
  readonly rank: number;
  readonly size: number;
  /**
   * How slices of tensors get to peers. Undefined where the ranks have one memory: there the records of peers point at
   * tensors that this rank can read where they lie, until it has published the round after.
   */
  readonly slices: SliceExchange | undefined;

  /** Everything that this transport lays in the rank's memory. Word offsets are relative to it. */
  readonly words: Int32Array;
  /** First words of two rooms that are this rank's alone: an operand table, and its flight ring. */
  readonly operandTable: number;
  readonly flightRing: number;
  /** Bytes of a staging area. */
  readonly stagingBytes: number;
  /** Which of the two places the running collective's announcements have: 0 or 1. */
  readonly parity: 0 | 1;
  /** Byte address, in the rank's memory, of a word. */
  addressOf(word: number): number;
  /** First word of a rank's header for the running collective. */
  header(rank: number): number;
  /** First word of a rank's staging area for the running collective. */
  staging(rank: number): number;
  /** Byte address of a rank's staging area, in this rank's memory. */
  stagingAddress(rank: number, parity: 0 | 1): number;

  /** A collective begins: its announcements go to the other place. */
  turn(): void;
  /** The first `bytes` of this rank's staging area are new, and go out with the next {@link publish}. */
  fill(bytes: number): void;
  /** Ends this rank's part of a round: peers see what it announced and gave. Never waits. */
  publish(): void;
  /** True when a rank has published as many rounds as this one, and all that it announced and gave is here. */
  hasArrived(peer: number): boolean;

  /** Looks for a peer for as long as that costs less than reading the clock and sleeping. True when it has arrived. */
  spin(peer: number): boolean;
  /**
   * Waits for a peer that has not arrived, until it has, the group is aborted, somebody nudges, or `until`; or for
   * less. A wait is made of such turns, numbered from 0. Times are by `performance.now()`; `now` is the present one.
   * Returns when it ended.
   */
  wait(peer: number, turn: number, now: number, until: number): number;
  /** {@link wait} for event loops. */
  waitAsync(peer: number, now: number, until: number): Promise<number>;

  /** True once somebody aborted the group. It stays aborted. */
  readonly isAborted: boolean;
  /** Aborts the group: every rank learns of it, and why. The first cause that a rank learns of stays. */
  abort(cause: Error): void;
  /** Why the group is aborted. Only once it is. */
  abortCause(): Error;
  /** Why a peer will not take part in what this rank waits for, or undefined while it may. */
  failureOf(peer: number): Error | undefined;
  /** Ends a turn of every peer that waits for this rank, so that it looks at this rank's health. */
  nudge(): void;

  /** This rank's part in the group is over: gives back what its end holds. Called once, between two collectives. */
  close(): void;
}
