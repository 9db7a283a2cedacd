import { type SharedHeap, Tensor, type TensorDescriptor } from "@lockstep/tensor";

/** A token of one of the texts that are continued. */
export interface TextToken {
  /** Number of the text, from 0, in the order of the prompts. */
  readonly text: number;
  /** Id of the token. */
  readonly token: number;
}

/**
 * Tokens on their way from a rank to the host while the rank is still busy making more: shared words, the first of
 * which counts the tokens written behind it, each as its text and its id. One writer, one reader.
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
    return new TokenStream(Tensor.zeros(heap, "i32", [1 + 2 * capacity]));
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
    Atomics.store(this.#words, 0, 0);
  }

  /** Writes a token. */
  push({ text, token }: TextToken): void {
    const count = Atomics.load(this.#words, 0);
    this.#words[1 + 2 * count] = text;
    this.#words[2 + 2 * count] = token;
    Atomics.store(this.#words, 0, count + 1);
    Atomics.notify(this.#words, 0);
  }

  /** Every token written until `writer` settles, each as soon as it is there. Rejects when `writer` does. */
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
        const written = Atomics.load(this.#words, 0);
        for (; read < written; read++) {
          yield { text: this.#words[1 + 2 * read] ?? -1, token: this.#words[2 + 2 * read] ?? -1 };
        }
        if (last) break;
        // Without a timeout: in Bun one that is pending keeps a core busy. The count is compared, so no token is
        // missed.
        const change = Atomics.waitAsync(this.#words, 0, written);
        if (change.async) await Promise.race([change.value, end]);
      }
    } finally {
      Atomics.notify(this.#words, 0);
      await writer;
    }
  }
}
