// How many of the heaviest weights it takes to reach a sum, about, in one pass over them and without sorting.

/** Buckets are told apart by a float64's exponent and the first two bits of its fraction: four to each power of 2. */
const BUCKET_SHIFT = 18;
/** The upper word of 1, the largest weight: it lies in bucket 0. */
const UPPER_OF_ONE = 0x3ff00000;
const BUCKETS = (UPPER_OF_ONE >>> BUCKET_SHIFT) + 1;

/** Memory to count weights in. */
export class WeightHistogram {
  readonly #counts = new Int32Array(BUCKETS);
  readonly #sums = new Float64Array(BUCKETS);

  /**
   * A number of the heaviest weights that reaches the sum `wanted`, apart from rounding: theirs, and the rest of those
   * that weigh about as much as the last of them. All weights, if they do not reach it.
   * @param weights from 0 to 1
   */
  countReaching(weights: Float64Array, wanted: number): number {
    this.#fill(weights);
    let count = 0;
    let sum = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      count += this.#counts[bucket] ?? 0;
      sum += this.#sums[bucket] ?? 0;
      if (sum >= wanted) break;
    }
    return count;
  }

  #fill(weights: Float64Array): void {
    const counts = this.#counts.fill(0);
    const sums = this.#sums.fill(0);
    const words = new Int32Array(weights.buffer, weights.byteOffset, 2 * weights.length);
    for (let at = 0; at < weights.length; at++) {
      // Memory of every engine has the lower word first.
      const bucket = Math.max(0, UPPER_OF_ONE - (words[2 * at + 1] ?? 0)) >> BUCKET_SHIFT;
      counts[bucket] = (counts[bucket] ?? 0) + 1;
      sums[bucket] = (sums[bucket] ?? 0) + (weights[at] ?? 0);
    }
  }
}
