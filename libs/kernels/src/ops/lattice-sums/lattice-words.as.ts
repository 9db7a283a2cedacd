// The lattice of a row, and its sums as words: as in lattice.ts, which says why.

const LOW: f64 = 67108864;
const NOT_FINITE: i32 = 1 << 26;
const LARGE_SCORE: f32 = 65536;
const LOWEST_EXPONENT: f64 = -300;
const LATTICE_BITS: i32 = 26;

/** The step in which weights are added. */
export const WEIGHT_STEP: f64 = 1.4901161193847656e-8;

/** 2^exponent, of a normal f64. */
// @ts-ignore: decorator
@inline
function powerOfTwo(exponent: i32): f64 {
  return reinterpret<f64>((<i64>(exponent + 1023)) << 52);
}

/** The step in which weighted values are added, by the row's three bounds; the first is finite. */
export function latticeStep(score: f32, weighted: f32, exponent: f32): f64 {
  if (exponent == -Infinity) return powerOfTwo(-LATTICE_BITS);
  let largest: f64 = exponent;
  if (abs(score) < LARGE_SCORE) {
    largest = max(LOWEST_EXPONENT, min(largest, ceil(<f64>weighted - <f64>score)));
  }
  return powerOfTwo(<i32>largest - LATTICE_BITS);
}

/** What a sum in steps of `step` begins at, so that its last place is the step. */
// @ts-ignore: decorator
@inline
export function latticeOrigin(step: f64): f64 {
  return 6755399441055744 * step;
}

/** The integer of two words; NaN where they say that a value was not finite. */
// @ts-ignore: decorator
@inline
export function joinWords(at: usize): f64 {
  const high = load<i32>(at, 4);
  if (high > 1 << 25 || high < -(1 << 25)) return NaN;
  return <f64>high * LOW + <f64>load<i32>(at);
}

/** Writes the words of an integer, or those of what is not finite. */
// @ts-ignore: decorator
@inline
export function splitWords(sum: f64, at: usize): void {
  // An infinity and NaN are not below.
  if (!(abs(sum) < 4503599627370496)) {
    store<i32>(at, 0);
    store<i32>(at, NOT_FINITE, 4);
    return;
  }
  const high = floor(sum / LOW);
  store<i32>(at, <i32>(sum - high * LOW));
  store<i32>(at, <i32>high, 4);
}
