/** Longest time in which a rank does not look whether it has ended. */
const SLICE_MS = 50;

/**
 * Makes `Atomics.wait` of this worker come out with `error` once `hasEnded`, by waiting in slices. For Deno, where a
 * worker that waits for ever survives `terminate()` and keeps the process from exiting. Our own waits are shorter than
 * a slice: nothing changes for them. A waiter that is notified between two slices sees the new value, as it would have
 * before it waited: "not-equal".
 */
export function boundBlockingWaits(hasEnded: () => boolean, error: () => Error): void {
  const wait = Atomics.wait as (
    words: Int32Array | BigInt64Array,
    index: number,
    value: number | bigint,
    timeoutMs?: number,
  ) => ReturnType<typeof Atomics.wait>;
  const bounded: typeof wait = (words, index, value, timeoutMs) => {
    if (timeoutMs !== undefined && timeoutMs <= SLICE_MS) return wait(words, index, value, timeoutMs);
    const limit = timeoutMs === undefined || Number.isNaN(timeoutMs) ? Number.POSITIVE_INFINITY : timeoutMs;
    const end = performance.now() + limit;
    for (;;) {
      if (hasEnded()) throw error();
      const left = end - performance.now();
      const outcome = wait(words, index, value, Math.max(0, Math.min(left, SLICE_MS)));
      if (outcome !== "timed-out" || left <= SLICE_MS) return outcome;
    }
  };
  Atomics.wait = bounded as typeof Atomics.wait;
}
