import type { SharedHeap, TensorDescriptor } from "@lockstep/tensor";
import { WordStream } from "./word-stream.ts";

/** A token of one of the texts that are continued. */
export interface TextToken {
  /** Number of the text, from 0, in the order of the prompts. */
  readonly text: number;
  /** Id of the token. */
  readonly token: number;
}

/** Tokens on their way from a rank to the host while the rank is still busy making more. One writer, one reader. */
export class TokenStream {
  readonly #words: WordStream;

  private constructor(words: WordStream) {
    this.#words = words;
  }

  /** A stream for up to `capacity` tokens at a time, in the reader's heap. */
  static create(heap: SharedHeap, capacity: number): TokenStream {
    return new TokenStream(WordStream.create(heap, 2 * capacity));
  }

  /** The stream that a {@link TokenStream.descriptor} describes, for the writer. */
  static open(descriptor: TensorDescriptor, heap: SharedHeap): TokenStream {
    return new TokenStream(WordStream.open(descriptor, heap));
  }

  get descriptor(): TensorDescriptor {
    return this.#words.descriptor;
  }

  /** Forgets what was written. Only while nobody writes. */
  clear(): void {
    this.#words.clear();
  }

  /** Writes a token. */
  push({ text, token }: TextToken): void {
    this.#words.push([text, token]);
  }

  /**
   * Every token written until `writer` settles, each within some milliseconds, the first at once. Rejects when `writer`
   * does.
   */
  async *read(writer: Promise<unknown>): AsyncGenerator<TextToken, void> {
    for await (const words of this.#words.read(writer)) {
      for (let at = 0; at < words.length; at += 2) yield { text: words[at] ?? -1, token: words[at + 1] ?? -1 };
    }
  }
}
