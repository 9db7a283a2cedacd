// The flight record of one rank in one group: a ring of its last 256 collectives in the control block, written by that
// rank only. A writer never waits, and a reader on any thread takes the ring as it is, also while its rank is stuck:
//
//   count word     collectives recorded so far: raised (Atomics.store) after an entry is complete
//   entries        16 words each: sequence, header signature, state, bytes, start, end, 2 spare, shape
//
// Times are whole milliseconds since the world opened, from the coarse clock in the rank status, which the host raises
// every
// 10 ms while it waits for ranks; a rank that parks reads the real clock. So recording costs some stores, and no clock.
// While entry s is written, the one of s - 256 is gone: a reader takes what lies between, and drops what the writer may
// have reached meanwhile.

import { MAX_DIMS } from "../wire/collective-header.ts";
import { FLIGHT_STATES, type FlightState } from "../wire/flight-types.ts";

/** Collectives that a ring holds, and words of each. */
const FLIGHT_ENTRIES = 256;
const FLIGHT_ENTRY_WORDS = 16;
/** The count has a line of its own. */
const ENTRIES = 32;
export const FLIGHT_RING_WORDS = ENTRIES + FLIGHT_ENTRIES * FLIGHT_ENTRY_WORDS;

const SIGNATURE = 1;
const STATE = 2;
const BYTES = 3;
const START = 4;
const END = 5;
const ENTRY_SHAPE = 8;
/** Without parks and without the host's clock, a rank looks at the real clock every so many collectives. */
const CLOCK_MASK = 255;

/** Codes of {@link FLIGHT_STATES}. */
const WAITING = 0;
const MOVING = 1;
const DONE = 2;
const FAILED = 3;

/** The time since the world opened, in whole milliseconds. */
export interface WorldClock {
  /** At a time by this thread's `performance.now()`. */
  worldTime(now: number): number;
  /** A cheap answer that may be some milliseconds late. */
  coarseTime(): number;
}

/** A ring's entry as plain words. */
export interface RawFlightEntry {
  readonly sequence: number;
  readonly signature: number;
  readonly state: FlightState;
  readonly bytes: number;
  readonly startMs: number;
  readonly endMs: number;
  readonly shape: readonly number[];
}

/** The writing end: one per rank and group. */
export class FlightRecorder {
  readonly #words: Int32Array;
  readonly #ring: number;
  readonly #clock: WorldClock;
  #entry = 0;
  /** The latest time this rank knows of. */
  #now = 0;

  /** `ring`: first word of the ring within `words`. */
  constructor(words: Int32Array, ring: number, clock: WorldClock) {
    this.#words = words;
    this.#ring = ring;
    this.#clock = clock;
  }

  /** A collective begins, which will bring `bytes` to this rank. */
  start(sequence: number, signature: number, shape: readonly number[], bytes: number): void {
    const words = this.#words;
    const entry = this.#ring + ENTRIES + (sequence & (FLIGHT_ENTRIES - 1)) * FLIGHT_ENTRY_WORDS;
    this.#entry = entry;
    if ((sequence & CLOCK_MASK) === CLOCK_MASK) this.lookAtClock();
    words[entry] = sequence;
    words[entry + SIGNATURE] = signature;
    words[entry + STATE] = WAITING;
    words[entry + BYTES] = bytes;
    words[entry + START] = this.#coarseNow();
    for (let dim = 0; dim < shape.length; dim++) words[entry + ENTRY_SHAPE + dim] = shape[dim] ?? 0;
    Atomics.store(words, this.#ring, sequence + 1);
  }

  /** Every peer has come. */
  moving(): void {
    this.#words[this.#entry + STATE] = MOVING;
  }

  done(): void {
    this.#finish(DONE);
  }

  failed(): void {
    this.lookAtClock();
    this.#finish(FAILED);
  }

  /** Takes the time of the real clock. */
  lookAtClock(): void {
    this.#now = this.#clock.worldTime(performance.now());
  }

  /** It is `now`, by `performance.now()`. */
  isNow(now: number): void {
    this.#now = this.#clock.worldTime(now);
  }

  #finish(state: number): void {
    this.#words[this.#entry + END] = this.#coarseNow();
    this.#words[this.#entry + STATE] = state;
  }

  #coarseNow(): number {
    const coarse = this.#clock.coarseTime();
    if (coarse > this.#now) this.#now = coarse;
    return this.#now;
  }
}

/** The entries of a ring, the oldest first. Any thread, any time. */
export function readFlightRing(words: Int32Array, ring: number): RawFlightEntry[] {
  const count = Atomics.load(words, ring);
  // The count wraps around at 2^31 collectives.
  const held = count < 0 ? FLIGHT_ENTRIES : Math.min(count, FLIGHT_ENTRIES);
  const entries: RawFlightEntry[] = [];
  for (let back = held; back > 0; back--) {
    const sequence = (count - back) | 0;
    const entry = ring + ENTRIES + (sequence & (FLIGHT_ENTRIES - 1)) * FLIGHT_ENTRY_WORDS;
    const word = (at: number): number => words[entry + at] ?? 0;
    const signature = word(SIGNATURE);
    entries.push({
      sequence: sequence >>> 0,
      signature,
      state: FLIGHT_STATES[word(STATE)] ?? "waiting",
      bytes: word(BYTES) >>> 0,
      startMs: word(START),
      endMs: word(END),
      shape: Array.from({ length: Math.min(signature >>> 24, MAX_DIMS) }, (_, dim) => word(ENTRY_SHAPE + dim)),
    });
  }
  // Meanwhile the writer may have come one entry further than its count says.
  const overwritten = ((Atomics.load(words, ring) - count) | 0) + 1 + held - FLIGHT_ENTRIES;
  return entries.slice(Math.max(0, overwritten));
}
