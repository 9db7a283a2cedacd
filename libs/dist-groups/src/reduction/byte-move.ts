import type { ReduceKernels } from "./reduce.ts";

/** Up to so many bytes a loop over words is faster than a call of a kernel. */
const MOST_LOOPED_BYTES = 64;

/**
 * A copy of contiguous bytes within the world's memory, from the same place to the same place every time. Allocates
 * nothing.
 */
export class ByteMove {
  /** Byte address of the source. */
  readonly from: number;
  readonly #to: number;
  readonly #bytes: number;
  readonly #kernels: ReduceKernels;
  /** The words of a small move. */
  readonly #target: Int32Array | undefined;
  readonly #source: Int32Array | undefined;

  constructor(kernels: ReduceKernels, buffer: ArrayBufferLike, to: number, from: number, bytes: number) {
    this.from = from;
    this.#to = to;
    this.#bytes = bytes;
    this.#kernels = kernels;
    if (bytes <= MOST_LOOPED_BYTES && ((to | from | bytes) & 3) === 0) {
      this.#target = new Int32Array(buffer, to, bytes >> 2);
      this.#source = new Int32Array(buffer, from, bytes >> 2);
    }
  }

  run(): void {
    const target = this.#target;
    const source = this.#source;
    if (target === undefined || source === undefined) this.#kernels.move(this.#to, this.from, this.#bytes);
    else for (let at = 0; at < target.length; at++) target[at] = source[at] ?? 0;
  }
}
