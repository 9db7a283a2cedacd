import type { SharedHeap } from "@lockstep/tensor";
import type { Ceilings } from "../report.ts";

const BLOCK = 32 << 20;
const BLOCKS = 4;
const FILL = 1;
const ROUNDS = 6;
const WARM_UP_MS = 200;
const [RUN_MS, CEILING_MS] = [80, 40];

/**
 * What one core copies (bytes read and written) and reads within the shared memory, over blocks far larger than its
 * caches.
 */
export class CeilingMeter {
  readonly #blocks: readonly Uint8Array[];
  #turn = 0;

  constructor(heap: SharedHeap) {
    this.#blocks = Array.from({ length: BLOCKS }, () =>
      new Uint8Array(heap.buffer, heap.allocate(BLOCK), BLOCK).fill(FILL),
    );
  }

  /** Bytes per second of both, by themselves. */
  measure(): Ceilings {
    const [copy, read] = [samples(() => this.#copy(), WARM_UP_MS), samples(() => this.#read(), WARM_UP_MS)].map(median);
    return { copy: (2 * BLOCK) / (copy ?? Number.NaN), read: BLOCK / (read ?? Number.NaN) };
  }

  /**
   * Median seconds of `run`, and the bytes per second of a ceiling measured in turn with it: other guests of a machine
   * change what both can reach from one second to the next.
   */
  beside(run: () => void, ceiling: keyof Ceilings): { seconds: number; ceilings: Ceilings } {
    samples(run, WARM_UP_MS);
    const times: number[] = [];
    const ceilingTimes: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      times.push(...samples(run, RUN_MS).slice(1));
      ceilingTimes.push(...samples(() => (ceiling === "copy" ? this.#copy() : this.#read()), CEILING_MS));
    }
    const bytes = ceiling === "copy" ? 2 * BLOCK : BLOCK;
    const rate = bytes / median(ceilingTimes);
    return { seconds: median(times), ceilings: { copy: rate, read: rate } };
  }

  #copy(): void {
    this.#next().set(this.#next());
  }

  /** The engine's own search for a byte that does not occur. */
  #read(): void {
    if (this.#next().indexOf(FILL + 1) !== -1) throw new Error("found a byte that nobody wrote");
  }

  #next(): Uint8Array {
    return this.#blocks[this.#turn++ % BLOCKS] ?? new Uint8Array(0);
  }
}

/** Seconds of each call within `milliseconds`, at least three. */
function samples(run: () => void, milliseconds: number): number[] {
  const times: number[] = [];
  const end = performance.now() + milliseconds;
  while (times.length < 3 || performance.now() < end) {
    const started = performance.now();
    run();
    times.push((performance.now() - started) / 1e3);
  }
  return times;
}

function median(times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}
