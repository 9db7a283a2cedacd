import type { RankContext } from "@lockstep/dist-groups";
import { type SharedHeap, Tensor, type TensorDescriptor } from "@lockstep/tensor";
import { HEAP_LINE_BYTES } from "../layers/heap-line.ts";

/** Bytes a unit of the counters, so that a rank's fit in 32 bits. */
const UNIT = 1024;
const POLL_MS = 100;

/**
 * How much of its weights each rank has read: a word a rank in the host's heap, which it writes and the host reads
 * while a world opens. Ranks of other processes have no way to it: they are taken to read as fast as the others.
 */
export class LoadProgress {
  readonly #words: Tensor;
  /** Ranks of the world for each that is heard of. */
  readonly #share: number;

  private constructor(words: Tensor, share: number) {
    this.#words = words;
    this.#share = share;
  }

  /** For a world of `size` ranks, of which the host's process has `heard`, in the host's heap. */
  static create(heap: SharedHeap, size: number, heard: number): LoadProgress {
    return new LoadProgress(Tensor.zeros(heap, "i32", [size]), size / heard);
  }

  /** Bytes of the host's heap that it takes. */
  static heapBytes(size: number): number {
    return 4 * size + HEAP_LINE_BYTES;
  }

  get descriptor(): TensorDescriptor {
    return this.#words.descriptor;
  }

  /** Bytes that all ranks have read so far. */
  get bytes(): number {
    const words = this.#words.i32;
    let units = 0;
    for (let rank = 0; rank < words.length; rank++) units += Atomics.load(words, rank);
    return Math.floor(units * this.#share) * UNIT;
  }

  /** All have read all: gives the heap back what it took. */
  free(): void {
    this.#words.free();
  }
}

/**
 * What a rank calls with the bytes that it has read so far. It does nothing where the host does not look, or shares no
 * memory with the rank.
 * @param progress where the host looks: {@link LoadProgress.descriptor}
 */
export function loadNotes(
  progress: TensorDescriptor | undefined,
  { rank, heap, hostProcess }: Pick<RankContext, "rank" | "heap" | "hostProcess">,
): (bytes: number) => void {
  if (progress === undefined || hostProcess.index !== 0) return () => {};
  const words = Tensor.fromDescriptor(progress, heap).i32;
  return (bytes) => {
    Atomics.store(words, rank, Math.floor(bytes / UNIT));
  };
}

/** Tells a listener from time to time how much has been read. */
export class LoadWatch {
  readonly #timer: ReturnType<typeof setInterval>;
  #failure: { readonly error: unknown } | undefined;

  constructor(progress: LoadProgress, listener: (bytes: number) => void) {
    this.#timer = setInterval(() => {
      try {
        listener(progress.bytes);
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
