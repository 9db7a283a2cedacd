import { type SharedHeap, Tensor, type TensorDescriptor } from "@lockstep/tensor";

/** Words before the records: how many words there are behind, and whether the reader wants to be woken by the next. */
const [COUNT, IS_WAITING, HEADER_WORDS] = [0, 1, 2];

/**
 * Milliseconds after which a reader that has found records looks for more. To wake it costs the writer's core some
 * 50 us, a tenth of a small model's step: so it is woken where records come less often than that, and looks by itself
 * else.
 */
const LOOK_AGAIN_MS = 4;

/**
 * Records of 32-bit words on their way from a rank to the host while the rank is still busy making more: shared words,
 * the first of which counts the words written behind the header, record after record. One writer, one reader.
 */
export class WordStream {
  readonly #words: Int32Array;
  readonly #tensor: Tensor;

  private constructor(tensor: Tensor) {
    this.#tensor = tensor;
    this.#words = tensor.i32;
  }

  /** A stream for up to so many words at a time, in the reader's heap. */
  static create(heap: SharedHeap, words: number): WordStream {
    return new WordStream(Tensor.zeros(heap, "i32", [HEADER_WORDS + words]));
  }

  /** The stream that a {@link WordStream.descriptor} describes, for the writer. */
  static open(descriptor: TensorDescriptor, heap: SharedHeap): WordStream {
    return new WordStream(Tensor.fromDescriptor(descriptor, heap));
  }

  /** Bytes of a stream of so many words. */
  static bytes(words: number): number {
    return 4 * (HEADER_WORDS + words);
  }

  get descriptor(): TensorDescriptor {
    return this.#tensor.descriptor;
  }

  /** Words that there is room for. */
  get room(): number {
    return this.#words.length - HEADER_WORDS - Atomics.load(this.#words, COUNT);
  }

  /** Forgets what was written. Only while nobody writes. */
  clear(): void {
    Atomics.store(this.#words, COUNT, 0);
  }

  /** Writes records, all of which the reader sees together. @throws RangeError when there is no room */
  push(words: readonly number[]): void {
    const count = Atomics.load(this.#words, COUNT);
    this.#words.set(words, HEADER_WORDS + count);
    Atomics.store(this.#words, COUNT, count + words.length);
    if (Atomics.exchange(this.#words, IS_WAITING, 0) !== 0) Atomics.notify(this.#words, COUNT);
  }

  /**
   * What is written until `writer` settles, in pieces of whole records, each within some milliseconds, the first at
   * once. A piece is valid until the next is asked for. Rejects when `writer` does.
   */
  async *read(writer: Promise<unknown>): AsyncGenerator<Int32Array, void> {
    let settled = false;
    const settle = (): void => {
      settled = true;
    };
    const end = writer.then(settle, settle);
    let read = 0;
    try {
      for (;;) {
        const last = settled;
        const written = Atomics.load(this.#words, COUNT);
        const isNew = read < written;
        if (isNew) yield this.#words.subarray(HEADER_WORDS + read, HEADER_WORDS + written);
        read = written;
        if (last) break;
        if (isNew) await during(end, LOOK_AGAIN_MS);
        else await this.#nextRecord(written, end);
      }
    } finally {
      Atomics.notify(this.#words, COUNT);
      await writer;
    }
  }

  /** Until there are more words than `written`, or no more will come. */
  async #nextRecord(written: number, end: Promise<void>): Promise<void> {
    // Before the count is compared: a writer that comes in between either is seen, or sees that it is to wake.
    Atomics.store(this.#words, IS_WAITING, 1);
    // Without a timeout: in Bun one that is pending keeps a core busy.
    const change = Atomics.waitAsync(this.#words, COUNT, written);
    if (change.async) await Promise.race([change.value, end]);
  }
}

/** Until so many milliseconds are over, or `end` settles. */
async function during(end: Promise<void>, milliseconds: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  await Promise.race([promise, end]);
  clearTimeout(timer);
}
