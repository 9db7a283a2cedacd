// Chance that can be computed again: numbers that depend on a seed and a counter alone, not on what was drawn before.
// Philox4x32-10, of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).

const ROUNDS = 10;
const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
/** What the key's words grow by from one round to the next: the golden ratio, and the square root of 3 less 1. */
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;

/** Four words of 32 bits, each from 0 to 2^32 - 1. */
export type FourWords = readonly [number, number, number, number];

/** Philox4x32 of ten rounds: the block of a counter under a key. Words are from 0 to 2^32 - 1. */
export function philox4x32(counter: FourWords, key: readonly [number, number]): FourWords {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = highWord(MULTIPLIER_0, c0);
    const low0 = Math.imul(MULTIPLIER_0, c0);
    const high1 = highWord(MULTIPLIER_1, c2);
    const low1 = Math.imul(MULTIPLIER_1, c2);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + WEYL_0) | 0;
    k1 = (k1 + WEYL_1) | 0;
  }
  return [c0 >>> 0, c1 >>> 0, c2 >>> 0, c3 >>> 0];
}

/**
 * A number in [0, 1), a multiple of 2^-53, every one as likely: the one that stands at place `index` under `seed`.
 * @param seed from 0 to 2^53 - 1
 * @param index from 0 to 2^53 - 1
 */
export function uniform(seed: number, index: number): number {
  const [first, second] = philox4x32([index >>> 0, upper(index), 0, 0], [seed >>> 0, upper(seed)]);
  return ((first >>> 5) * 2 ** 26 + (second >>> 6)) / 2 ** 53;
}

/** The upper 32 bits of an integer from 0 to 2^53 - 1. */
function upper(value: number): number {
  return Math.floor(value / 2 ** 32);
}

/** The upper 32 bits of the product of two words, as one. */
function highWord(a: number, b: number): number {
  const [aHigh, aLow, bHigh, bLow] = [a >>> 16, a & 0xffff, b >>> 16, b & 0xffff];
  const middle = aHigh * bLow + Math.floor((aLow * bLow) / 2 ** 16);
  const carried = aLow * bHigh + (middle % 2 ** 16);
  return (aHigh * bHigh + Math.floor(middle / 2 ** 16) + Math.floor(carried / 2 ** 16)) >>> 0;
}
