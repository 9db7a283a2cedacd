/** Up to so many bytes a loop over words is faster than `TypedArray.set`, whose call costs about 30 ns. */
const MOST_LOOPED_BYTES = 64;

/** A copy of contiguous bytes within the world's memory, from the same place to the same place every time. Allocates nothing. */
export class ByteMove {
  /** Byte address of the source. */
  readonly from: number;
  readonly #target: Uint8Array | Int32Array;
  readonly #source: Uint8Array | Int32Array;
  readonly #loops: boolean;

  constructor(buffer: ArrayBufferLike, to: number, from: number, bytes: number) {
    this.from = from;
    this.#loops = bytes <= MOST_LOOPED_BYTES;
    const inWords = this.#loops && ((to | from | bytes) & 3) === 0;
    this.#target = inWords ? new Int32Array(buffer, to, bytes >> 2) : new Uint8Array(buffer, to, bytes);
    this.#source = inWords ? new Int32Array(buffer, from, bytes >> 2) : new Uint8Array(buffer, from, bytes);
  }

  run(): void {
    const target = this.#target;
    const source = this.#source;
    if (this.#loops) for (let at = 0; at < target.length; at++) target[at] = source[at] ?? 0;
    else target.set(source);
  }
}
