// The lattice that world-invariant attention adds on, and how its sums are written as two i32.
//
// A weight w = 2^(s - m) and a value v become the integer nearest to w * v / q, where q = 2^E * 2^-26 and |w * v| is at
// most 2^E for every key of the whole context. Integers are added exactly, in any order, on any number of ranks.

/** Steps of the lattice to the largest term, as a power of two. */
export const LATTICE_BITS = 26;
/** The step in which weights are added: their largest is 1. */
export const WEIGHT_STEP = 2 ** -LATTICE_BITS;
/** Keys that a query may see in all: with as many, sums stay below 2^51. */
export const MOST_LATTICE_KEYS = 2 ** 24;
/** Ranks whose sums may be added as i32. */
export const MOST_LATTICE_RANKS = 32;
/** Bits of the lower word. 32 of them stay within i32. */
const LOW = 2 ** 26;
/**
 * The upper word of a column that holds a value which is not finite. The upper word of finite sums stays within +-2^25;
 * up to 32 marks are beyond it, even where they wrap around.
 */
export const NOT_FINITE = 2 ** 26;
/** Scores from here on are too large to be compared with exponents in f32. */
const LARGE_SCORE = 2 ** 16;
/** No weight and value is below it: 2^-127 * 2^-149. */
const LOWEST_EXPONENT = -300;

/**
 * E: no weight times value is larger than about 2^E.
 * @param score bounds[0], finite
 * @param weighted bounds[1]
 * @param exponent bounds[2]; -inf where every value is 0
 */
export function latticeExponent(score: number, weighted: number, exponent: number): number {
  if (exponent === Number.NEGATIVE_INFINITY) return 0;
  if (!(Math.abs(score) < LARGE_SCORE)) return exponent;
  return Math.max(LOWEST_EXPONENT, Math.min(exponent, Math.ceil(weighted - score)));
}

/** The step in which weighted values are added. */
export function latticeStep(exponent: number): number {
  return 2 ** (exponent - LATTICE_BITS);
}

/** The integer of two words. They may be sums of up to 32 ranks' words. */
export function joinWords(low: number, high: number): number {
  return high * LOW + low;
}

/** The words of an integer below 2^51: 0 <= low < 2^26. */
export function splitWords(sum: number): readonly [low: number, high: number] {
  const high = Math.floor(sum / LOW);
  return [sum - high * LOW, high];
}

/** Whether an upper word, or the sum of some, says that the column holds a value which is not finite. */
export function isNotFinite(high: number): boolean {
  return Math.abs(high) > 2 ** 25;
}

/** The smallest integer e with |v| < 2^e for every finite v, from -126 on; -inf where all of them are 0. */
export function valueExponent(values: readonly number[]): number {
  let largest = 0;
  for (const value of values) {
    const size = Math.abs(Math.fround(value));
    if (Number.isFinite(size)) largest = Math.max(largest, size);
  }
  if (largest === 0) return Number.NEGATIVE_INFINITY;
  let exponent = Math.floor(Math.log2(largest)) + 1;
  while (2 ** exponent <= largest) exponent++;
  while (2 ** (exponent - 1) > largest) exponent--;
  return Math.max(-126, exponent);
}

const LOW_BITS = (1n << 25n) - 1n;
const ODD = 1n << 24n;

/**
 * The weight that terms are made with: of its 29 leading bits the last one is set, so that no term is half-way between
 * two integers. 0 stays 0.
 */
export function oddWeight(weight: number): number {
  if (weight === 0) return 0;
  const [bits = 0n] = new BigUint64Array(Float64Array.of(weight).buffer);
  return new Float64Array(BigUint64Array.of((bits & ~LOW_BITS) | ODD).buffer)[0] ?? 0;
}
