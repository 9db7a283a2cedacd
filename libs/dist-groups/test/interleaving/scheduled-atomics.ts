// Runs several threads as if there were one, in an order that a seed decides, so that real code meets thousands of
// interleavings and each can be repeated. Every atomic operation, every notify and every move of data is a step: before
// it, the thread that holds the token draws the next holder among the threads that can run, and waits until the token
// comes back.
//
// `Atomics` and `performance.now` are replaced in the thread itself, so the code under test is the code that ships.
// Time stands still until every thread is parked: then the earliest timeout fires, and that is counted. Without faults
// it must not happen: it means that a wake-up was lost.

import { openNativeScheduler } from "../../src/transport/shared-memory/native-scheduler.ts";

const TOKEN = 0;
const RANDOM = 1;
const CLOCK = 2;
const STEPS = 3;
const TRACE = 4;
const IDLE_TIMEOUTS = 5;
const DONE = 6;
const SWITCHES = 7;
const THREADS = 8;
/** Words of a thread's entry: its state, the word it is parked on, when the park times out, whether it was notified. */
const ENTRY = 4;
const STATE = 0;
const WORD = 1;
const TIMEOUT = 2;
const NOTIFIED = 3;

const RUNNABLE = 0;
const PARKED = 1;
const FINISHED = 2;

/** Nobody's turn: the run has ended. */
const NOBODY = -1;
/** A run that takes more steps than this does not end. */
const MOST_STEPS = 400_000;

/** How the primitives lie, to see that the test would tell. */
export type PrimitiveMutation = "none" | "notify is lost" | "sleeper is not counted" | "park does not compare";

/** What a run was like. */
export interface RunStatistics {
  readonly steps: number;
  readonly idleTimeouts: number;
  /** Hash of who did what in which order. */
  readonly trace: number;
}

export function controlWords(threads: number): number {
  return THREADS + threads * ENTRY;
}

const real = {
  load: Atomics.load,
  store: Atomics.store,
  add: Atomics.add,
  sub: Atomics.sub,
  compareExchange: Atomics.compareExchange,
  notify: Atomics.notify,
  wait: Atomics.wait,
} as const;

/** The calling thread's end of the scheduler. */
export class ScheduledThread {
  readonly #control: Int32Array;
  readonly #thread: number;
  readonly #threads: number;
  readonly #yieldCore = openNativeScheduler()?.yieldCore;
  #mutation: PrimitiveMutation = "none";

  constructor(control: Int32Array, thread: number, threads: number) {
    this.#control = control;
    this.#thread = thread;
    this.#threads = threads;
  }

  /** Replaces this thread's primitives for good. `memory`: where the words of the code under test lie. */
  install(memory: ArrayBufferLike): void {
    const ours = (words: { readonly buffer: ArrayBufferLike }): words is Int32Array => words.buffer === memory;
    const replace = (name: keyof typeof real, replacement: unknown): void => {
      Object.defineProperty(Atomics, name, { value: replacement, configurable: true, writable: true });
    };
    replace("load", (words: Int32Array, index: number) => {
      if (ours(words)) this.step(index);
      return real.load(words, index);
    });
    replace("store", (words: Int32Array, index: number, value: number) => {
      if (ours(words)) this.step(index);
      return real.store(words, index, value);
    });
    replace("add", (words: Int32Array, index: number, value: number) => {
      if (ours(words)) this.step(index);
      return real.add(words, index, this.#mutation === "sleeper is not counted" ? 0 : value);
    });
    replace("sub", (words: Int32Array, index: number, value: number) => {
      if (ours(words)) this.step(index);
      return real.sub(words, index, this.#mutation === "sleeper is not counted" ? 0 : value);
    });
    replace("compareExchange", (words: Int32Array, index: number, expected: number, value: number) => {
      if (ours(words)) this.step(index);
      return real.compareExchange(words, index, expected, value);
    });
    replace("notify", (words: Int32Array, index: number, count?: number) =>
      ours(words) ? this.#notify(index) : real.notify(words, index, count),
    );
    replace("wait", (words: Int32Array, index: number, value: number, timeout?: number) =>
      ours(words) ? this.#wait(words, index, value, timeout) : real.wait(words, index, value, timeout),
    );
    performance.now = () => this.#word(CLOCK);
  }

  set mutation(mutation: PrimitiveMutation) {
    this.#mutation = mutation;
  }

  /** First thing in a run: waits for the token. */
  enter(): void {
    this.#awaitToken();
  }

  /**
   * Last thing in a run. True for the thread that ends it: the only one left, which prepares the next with
   * {@link begin}.
   */
  leave(): boolean {
    this.#set(this.#entry(this.#thread) + STATE, FINISHED);
    this.#set(DONE, this.#word(DONE) + 1);
    if (this.#word(DONE) === this.#threads) return true;
    this.#pass(this.#choose());
    return false;
  }

  get statistics(): RunStatistics {
    return { steps: this.#word(STEPS), idleTimeouts: this.#word(IDLE_TIMEOUTS), trace: this.#word(TRACE) };
  }

  /** Starts a run, in which a step hands the token on with a probability that the seed decides. */
  begin(seed: number): void {
    for (let word = 0; word < controlWords(this.#threads); word++) if (word !== TOKEN) this.#set(word, 0);
    this.#set(RANDOM, Math.imul(seed + 1, 0x9e3779b1) | 1);
    this.#set(SWITCHES, 1 << (this.#draw() % 4));
    this.#pass(this.#choose());
  }

  /** Ends the last run: nobody has the token. */
  end(): void {
    this.#pass(NOBODY);
  }

  /** The next step of this thread, as a schedule of the seed has it. `what` goes into the trace. */
  step(what: number): void {
    const steps = this.#word(STEPS) + 1;
    this.#set(STEPS, steps);
    this.#set(TRACE, Math.imul(this.#word(TRACE) ^ (what * 31 + this.#thread), 16777619) | 0);
    if (steps > MOST_STEPS) throw new Error(`a run of more than ${MOST_STEPS} steps: nobody gets anywhere`);
    if (this.#draw() % 8 >= this.#word(SWITCHES)) return;
    const next = this.#choose();
    if (next === this.#thread) return;
    this.#pass(next);
    this.#awaitToken();
  }

  #wait(words: Int32Array, index: number, value: number, timeout = Number.POSITIVE_INFINITY): string {
    this.step(index);
    if (real.load(words, index) !== value && this.#mutation !== "park does not compare") return "not-equal";
    const entry = this.#entry(this.#thread);
    this.#set(entry + WORD, index);
    this.#set(entry + TIMEOUT, this.#word(CLOCK) + Math.max(1, Math.ceil(Math.min(timeout, 1e6))));
    this.#set(entry + NOTIFIED, 0);
    this.#set(entry + STATE, PARKED);
    const next = this.#choose();
    if (next !== this.#thread) {
      this.#pass(next);
      this.#awaitToken();
    }
    return this.#word(entry + NOTIFIED) === 1 ? "ok" : "timed-out";
  }

  #notify(index: number): number {
    this.step(index);
    if (this.#mutation === "notify is lost") return 0;
    let woken = 0;
    for (let thread = 0; thread < this.#threads; thread++) {
      const entry = this.#entry(thread);
      if (this.#word(entry + STATE) !== PARKED || this.#word(entry + WORD) !== index) continue;
      this.#set(entry + STATE, RUNNABLE);
      this.#set(entry + NOTIFIED, 1);
      woken++;
    }
    return woken;
  }

  /** The thread that goes on: any that can run, or else the first whose park times out. */
  #choose(): number {
    let runnable = 0;
    for (let thread = 0; thread < this.#threads; thread++) {
      if (this.#word(this.#entry(thread) + STATE) === RUNNABLE) runnable++;
    }
    if (runnable > 0) {
      let pick = this.#draw() % runnable;
      for (let thread = 0; thread < this.#threads; thread++) {
        if (this.#word(this.#entry(thread) + STATE) === RUNNABLE && pick-- === 0) return thread;
      }
    }
    let first = NOBODY;
    for (let thread = 0; thread < this.#threads; thread++) {
      const entry = this.#entry(thread);
      if (this.#word(entry + STATE) !== PARKED) continue;
      if (first === NOBODY || this.#word(entry + TIMEOUT) < this.#word(this.#entry(first) + TIMEOUT)) first = thread;
    }
    const entry = this.#entry(first);
    this.#set(IDLE_TIMEOUTS, this.#word(IDLE_TIMEOUTS) + 1);
    this.#set(CLOCK, this.#word(entry + TIMEOUT));
    this.#set(entry + STATE, RUNNABLE);
    return first;
  }

  /** The next random number: xorshift32, in shared memory, drawn by the holder of the token only. */
  #draw(): number {
    let state = this.#word(RANDOM);
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#set(RANDOM, state);
    return state >>> 8;
  }

  #pass(thread: number): void {
    real.store(this.#control, TOKEN, thread);
    real.notify(this.#control, TOKEN);
  }

  #awaitToken(): void {
    for (let look = 0; ; look++) {
      const holder = real.load(this.#control, TOKEN);
      if (holder === this.#thread) return;
      if (look < 200) continue;
      if (this.#yieldCore !== undefined && look < 100_000) this.#yieldCore();
      else real.wait(this.#control, TOKEN, holder, 50);
    }
  }

  #entry(thread: number): number {
    return THREADS + thread * ENTRY;
  }

  #word(index: number): number {
    return this.#control[index] ?? 0;
  }

  #set(index: number, value: number): void {
    this.#control[index] = value;
  }
}
