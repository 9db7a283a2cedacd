// How ranks and the host know about each other's health, one block per world:
//
//   header line    written by the host: the epoch, raised whenever no call is in flight; the coarse clock, in
//                  milliseconds since the world opened; whether the world is closed
//   rank lines     per rank: the epoch in which it left its call by a failure, whether it exited, its heartbeat, how
//                  many calls it is running, and a core it ran on
//   records        two per rank: why it left, why it exited, as JSON
//   call words     one per call under way: posted, begun on some rank, or cancelled before it began
//
// A rank whose method throws does not abort its groups at once: every rank may have refused the same bad argument, and
// then nobody waits. It marks itself as having left; a peer that is waiting for it, or comes to wait for it within the
// same epoch, aborts the group in its name.

import { ERROR_RECORD_WORDS, readErrorRecord, writeErrorRecord } from "../../errors/error-record.ts";
import type { PlainError } from "../../errors/plain-error.ts";
import { CALL_NUMBERS, type HostHealth, type RankHealth } from "../world-transport.ts";
import { LINE_WORDS } from "./control-block.ts";

const COARSE_CLOCK = 1;
const WORLD_CLOSED = 2;

const POSTED = 0;
const BEGUN = 1;
const CANCELLED = 2;

const LEFT = 0;
const EXITED = 1;
const BEAT = 2;
const RUNNING = 3;
const CORE = 4;

export class RankStatus implements RankHealth, HostHealth {
  static totalWords(size: number): number {
    return LINE_WORDS + size * (LINE_WORDS + 2 * ERROR_RECORD_WORDS) + CALL_NUMBERS;
  }

  readonly #words: Int32Array;
  readonly #size: number;
  /** What to add to this thread's `performance.now()`, whose zero differs between threads. */
  readonly #clockOffset: number;

  /** `byteOffset`: where the block lies in the world's memory. `openedAt`: when the world opened, by `Date.now()`. */
  constructor(buffer: ArrayBufferLike, byteOffset: number, size: number, openedAt: number) {
    this.#words = new Int32Array(buffer, byteOffset, RankStatus.totalWords(size));
    this.#size = size;
    this.#clockOffset = Date.now() - openedAt - performance.now();
  }

  /** Whole milliseconds since the world opened, at a time by `performance.now()`. */
  worldTime(now: number = performance.now()): number {
    return Math.max(0, Math.round(now + this.#clockOffset));
  }

  /** Host: sets the coarse clock. */
  tick(): void {
    Atomics.store(this.#words, COARSE_CLOCK, this.worldTime());
  }

  /**
   * Whole milliseconds since the world opened, as of the host's last tick. A plain load: being late by one does no
   * harm.
   */
  coarseTime(): number {
    return this.#words[COARSE_CLOCK] ?? 0;
  }

  #line(rank: number): number {
    return LINE_WORDS + rank * LINE_WORDS;
  }

  #record(rank: number, kind: typeof LEFT | typeof EXITED): number {
    return LINE_WORDS + this.#size * LINE_WORDS + (2 * rank + kind) * ERROR_RECORD_WORDS;
  }

  /** Host: the world is gone. */
  close(): void {
    Atomics.store(this.#words, WORLD_CLOSED, 1);
  }

  get isClosed(): boolean {
    return Atomics.load(this.#words, WORLD_CLOSED) !== 0;
  }

  /** Host: forgets failures of earlier calls. Only while no call is in flight. */
  nextEpoch(): void {
    Atomics.add(this.#words, 0, 1);
  }

  /** Rank: it failed and will not take part in what its peers are doing. Only the first failure of an epoch counts. */
  leave(rank: number, error: unknown): void {
    if (this.hasLeft(rank)) return;
    writeErrorRecord(this.#words, this.#record(rank, LEFT), error);
    Atomics.store(this.#words, this.#line(rank) + LEFT, Atomics.load(this.#words, 0));
  }

  /** The rank has marked itself before it answered. */
  failed(): void {}

  /** Host: forgets that a rank left. Only while it is in no call, and nobody waits for what it left. */
  forgive(rank: number): void {
    Atomics.store(this.#words, this.#line(rank) + LEFT, 0);
  }

  #call(word: number): number {
    return LINE_WORDS + this.#size * (LINE_WORDS + 2 * ERROR_RECORD_WORDS) + word;
  }

  /** Host: a call is about to be posted to its ranks. `word` is from 0 to CALL_NUMBERS - 1. */
  postCall(word: number): void {
    Atomics.store(this.#words, this.#call(word), POSTED);
  }

  /** Rank: begins a call. False when the host cancelled it: then no rank begins it. */
  beginCall(word: number): boolean {
    return Atomics.compareExchange(this.#words, this.#call(word), POSTED, BEGUN) !== CANCELLED;
  }

  /** Host: cancels a call that no rank has begun. False when one has. */
  cancelCall(word: number): boolean {
    return Atomics.compareExchange(this.#words, this.#call(word), POSTED, CANCELLED) !== BEGUN;
  }

  /** Rank, or the host for a rank that is gone: it will never take part again. */
  exit(rank: number, error: unknown): void {
    if (this.hasExited(rank)) return;
    writeErrorRecord(this.#words, this.#record(rank, EXITED), error);
    Atomics.store(this.#words, this.#line(rank) + EXITED, 1);
  }

  /** True when a rank left in this epoch, or exited. */
  hasLeft(rank: number): boolean {
    return Atomics.load(this.#words, this.#line(rank) + LEFT) === Atomics.load(this.#words, 0) || this.hasExited(rank);
  }

  hasExited(rank: number): boolean {
    return Atomics.load(this.#words, this.#line(rank) + EXITED) !== 0;
  }

  /** Why a rank exited, or else why it left. */
  failure(rank: number): PlainError {
    return readErrorRecord(this.#words, this.#record(rank, this.hasExited(rank) ? EXITED : LEFT));
  }

  /** Rank: its event loop turns. */
  beat(rank: number): void {
    Atomics.add(this.#words, this.#line(rank) + BEAT, 1);
  }

  heartbeat(rank: number): number {
    return Atomics.load(this.#words, this.#line(rank) + BEAT);
  }

  /** Rank: a call began or ended (+1, -1). */
  countRunning(rank: number, change: number): void {
    Atomics.add(this.#words, this.#line(rank) + RUNNING, change);
  }

  running(rank: number): number {
    return Atomics.load(this.#words, this.#line(rank) + RUNNING);
  }

  /** Rank: the core it runs on, or -1. A plain store: an old answer does no harm. */
  runsOn(rank: number, core: number): void {
    this.#words[this.#line(rank) + CORE] = 1 + core;
  }

  /** The core on which a rank last said that it ran, or -1. */
  core(rank: number): number {
    return (this.#words[this.#line(rank) + CORE] ?? 0) - 1;
  }
}
