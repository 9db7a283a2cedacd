import { type SharedHeap, Tensor, type TensorDescriptor } from "@lockstep/tensor";

/** A token of one of the texts that are continued. */
export interface TextToken {
  /** Number of the text, from 0, in the order of the prompts. */
  readonly text: number;
  /** Id of the token. */
  readonly token: number;
}

/** Words before the tokens: how many there are, and whether the reader wants to be woken by the next. */
const [COUNT, IS_WAITING, HEADER_WORDS] = [0, 1, 2];

/**
 * Milliseconds after which a reader that has found tokens looks for more. To wake it costs the writer's core some 50 us,
 * a tenth of a small model's step: so it is woken where tokens come less often than that, and looks by itself else.
 */
const LOOK_AGAIN_MS = 4;

/**
 * Tokens on their way from a rank to the host while the rank is still busy making more: shared words, the first of
 * which counts the tokens written behind the header, each as its text and its id. One writer, one reader.
 */
export class TokenStream {
  readonly #words: Int32Array;
  readonly #tensor: Tensor;

  private constructor(tensor: Tensor) {
    this.#tensor = tensor;
    this.#words = tensor.i32;
  }

  /** A stream for up to `capacity` tokens at a time, in the reader's heap. */
  static create(heap: SharedHeap, capacity: number): TokenStream {
    return new TokenStream(Tensor.zeros(heap, "i32", [HEADER_WORDS + 2 * capacity]));
  }

  /** The stream that a {@link TokenStream.descriptor} describes, for the writer. */
  static open(descriptor: TensorDescriptor, heap: SharedHeap): TokenStream {
    return new TokenStream(Tensor.fromDescriptor(descriptor, heap));
  }

  get descriptor(): TensorDescriptor {
    return this.#tensor.descriptor;
  }

  /** Forgets what was written. Only while nobody writes. */
  clear(): void {
    Atomics.store(this.#words, COUNT, 0);
  }

  /** Writes a token. */
  push({ text, token }: TextToken): void {
    const count = Atomics.load(this.#words, COUNT);
    this.#words[HEADER_WORDS + 2 * count] = text;
    this.#words[HEADER_WORDS + 2 * count + 1] = token;
    Atomics.store(this.#words, COUNT, count + 1);
    if (Atomics.exchange(this.#words, IS_WAITING, 0) !== 0) Atomics.notify(this.#words, COUNT);
  }

  /**
   * Every token written until `writer` settles, each within some milliseconds, the first at once. Rejects when `writer`
   * does.
   */
  async *read(writer: Promise<unknown>): AsyncGenerator<TextToken, void> {
    let settled = false;
    const end = writer.then(
      () => {
        settled = true;
      },
      () => {
        settled = true;
      },
    );
    let read = 0;
    try {
      for (;;) {
        const last = settled;
        const written = Atomics.load(this.#words, COUNT);
        const isNew = read < written;
        for (; read < written; read++) {
          const at = HEADER_WORDS + 2 * read;
          yield { text: this.#words[at] ?? -1, token: this.#words[at + 1] ?? -1 };
        }
        if (last) break;
        if (isNew) await during(end, LOOK_AGAIN_MS);
        else await this.#nextToken(written, end);
      }
    } finally {
      Atomics.notify(this.#words, COUNT);
      await writer;
    }
  }

  /** Until there are more tokens than `written`, or no more will come. */
  async #nextToken(written: number, end: Promise<void>): Promise<void> {
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
