import { sharedBytes } from "@lockstep/tensor";

/** Bytes a unit of the counters, so that a rank's fit in 32 bits. */
const UNIT = 1024;
const POLL_MS = 100;

/**
 * How much of its weights each rank has read: a word a rank, which it writes and the host reads while a world opens.
 */
export type LoadProgress = Int32Array;

/** For so many ranks. It is shared with them as part of their options. */
export function createLoadProgress(ranks: number): LoadProgress {
  return new Int32Array(sharedBytes("Generator.open", 4 * ranks).buffer);
}

/** Notes how many bytes a rank has read. */
export function noteLoaded(progress: LoadProgress, rank: number, bytes: number): void {
  Atomics.store(progress, rank, Math.floor(bytes / UNIT));
}

/** Bytes that all ranks have read so far. */
export function loadedBytes(progress: LoadProgress): number {
  let units = 0;
  for (let rank = 0; rank < progress.length; rank++) units += Atomics.load(progress, rank);
  return units * UNIT;
}

/** Tells a listener from time to time how much has been read. */
export class LoadWatch {
  readonly #timer: ReturnType<typeof setInterval>;
  #failure: { readonly error: unknown } | undefined;

  constructor(progress: LoadProgress, listener: (bytes: number) => void) {
    this.#timer = setInterval(() => {
      try {
        listener(loadedBytes(progress));
      } catch (error) {
        this.stop();
        this.#failure = { error };
      }
    }, POLL_MS);
  }

  /** Idempotent. */
  stop(): void {
    clearInterval(this.#timer);
  }

  /** Throws what the listener threw, if it did. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}
