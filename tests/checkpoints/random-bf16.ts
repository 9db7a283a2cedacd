// Normal numbers in bf16, two from a word of a fast generator, so that a billion take seconds.
import { RandomStream } from "../random.ts";

const DRAWS = 1 << 12;

/** Numbers around `mean` in the bits of bf16: a generator picks them from a table of 4,096 draws. */
export class RandomBf16 {
  readonly #table = new Uint16Array(DRAWS);
  #state: number;

  /** @param stream another one gives other numbers */
  constructor(stream: number, mean: number, deviation: number) {
    const random = new RandomStream(stream);
    const values = random.normals(DRAWS);
    // Sums over many weights would show a mean of the table that is not the one asked for.
    const offset = mean - (deviation * values.reduce((sum, value) => sum + value, 0)) / DRAWS;
    const value = new Float32Array(1);
    const bits = new Uint32Array(value.buffer);
    for (const [index, draw] of values.entries()) {
      value[0] = offset + deviation * draw;
      // To nearest; no draw is near to where rounding overflows.
      this.#table[index] = ((bits[0] ?? 0) + 0x8000) >>> 16;
    }
    this.#state = Math.floor(random.next() * 2 ** 24) + 1;
  }

  /** The next numbers, as many as `into` holds. */
  fill(into: Uint16Array): void {
    const table = this.#table;
    let state = this.#state;
    for (let index = 0; index < into.length; index += 2) {
      // xorshift32 (Marsaglia 2003).
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      into[index] = table[state & (DRAWS - 1)] ?? 0;
      into[index + 1] = table[(state >>> 16) & (DRAWS - 1)] ?? 0;
    }
    this.#state = state;
  }
}
