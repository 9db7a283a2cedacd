// Where the flight rings of a rank's groups lie, for the main thread of its process, which reads them while the rank is
// stuck. One table per rank in the process's memory, written by that rank only: pairs of words, the channel plus one
// (0: free) and the ring's byte offset.

/** Groups of one rank at a time whose rings can be found. */
const ENTRIES = 64;
const ENTRY_WORDS = 2;
/** Bytes of a table. */
export const FLIGHT_DIRECTORY_BYTES = ENTRIES * ENTRY_WORDS * 4;

export class FlightDirectory {
  readonly #words: Int32Array;

  constructor(buffer: ArrayBufferLike, byteOffset: number) {
    this.#words = new Int32Array(buffer, byteOffset, ENTRIES * ENTRY_WORDS);
  }

  /** The rank's end of a group begins. Beyond the table's room a ring is not found: nothing else is lost. */
  add(channel: number, ringByteOffset: number): void {
    for (let at = 0; at < this.#words.length; at += ENTRY_WORDS) {
      if (this.#words[at] !== 0) continue;
      this.#words[at + 1] = ringByteOffset;
      Atomics.store(this.#words, at, channel + 1);
      return;
    }
  }

  /** The rank's end of a group is over. */
  remove(channel: number): void {
    for (let at = 0; at < this.#words.length; at += ENTRY_WORDS) {
      if (this.#words[at] === channel + 1) Atomics.store(this.#words, at, 0);
    }
  }

  /** Channels and byte offsets of the rings. Any thread of the process. */
  *entries(): Generator<readonly [channel: number, ringByteOffset: number]> {
    for (let at = 0; at < this.#words.length; at += ENTRY_WORDS) {
      const channel = Atomics.load(this.#words, at) - 1;
      if (channel >= 0) yield [channel, (this.#words[at + 1] ?? 0) >>> 0];
    }
  }
}
