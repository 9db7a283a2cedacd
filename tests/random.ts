/** A deterministic stream of numbers (mulberry32): the same seed gives the same numbers in every runtime. */
export class RandomStream {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** Uniform in [0, 1), a multiple of 2^-24: exact in f32. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 8) / 2 ** 24;
  }

  /** Roughly normal: the sum of four uniform numbers, centred, of variance 1. */
  normal(): number {
    return Math.fround((this.next() + this.next() + this.next() + this.next() - 2) * 1.7320508);
  }

  /** `count` roughly normal numbers. */
  normals(count: number): Float64Array {
    return Float64Array.from({ length: count }, () => this.normal());
  }

  /** An integer in [0, bound). */
  below(bound: number): number {
    return Math.floor(this.next() * bound);
  }
}
