// Angles of the rotary position embedding. The engines' Math.cos, Math.sin and Math.pow differ in their last bits, so
// everything here is built from IEEE additions, multiplications and divisions alone: the same bits everywhere.

/**
 * Turn per position of each pair of dimensions: theta^(-i / half) for i in [0, half), rounded to f32 as the models'
 * own code does. `theta` is above 1.
 */
export function inverseFrequencies(theta: number, half: number): Float32Array {
  const root = nthRoot(theta, half);
  const frequencies = new Float32Array(half);
  let power = 1;
  for (let index = 0; index < half; index++) {
    frequencies[index] = 1 / power;
    power *= root;
  }
  return frequencies;
}

/**
 * Cosines and sines of the angles position * frequency, times `amplitude`, one row of `frequencies.length` for each
 * position. The angle is rounded to f32 as the models' own code does.
 */
export function fillRotations(
  cosines: Float32Array,
  sines: Float32Array,
  frequencies: Float32Array,
  positions: ArrayLike<number>,
  amplitude = 1,
): void {
  const half = frequencies.length;
  for (let row = 0; row < positions.length; row++) {
    for (let index = 0; index < half; index++) {
      const angle = Math.fround((positions[row] ?? 0) * (frequencies[index] ?? 0));
      const at = row * half + index;
      cosines[at] = cosine(angle) * amplitude;
      sines[at] = sine(angle) * amplitude;
    }
  }
}

/** ln(value), value above 0 and finite, to within 1e-15 of its size or of 1. @throws RangeError for others */
export function naturalLog(value: number): number {
  if (!(value > 0 && value < Number.POSITIVE_INFINITY)) throw new RangeError(`no logarithm of ${value}`);
  let rest = value;
  let twos = 0;
  for (; rest > Math.SQRT2; rest /= 2) twos++;
  for (; rest < Math.SQRT1_2; rest *= 2) twos--;
  // ln(rest) = 2 artanh(t) = 2 (t + t^3 / 3 + t^5 / 5 + ...), |t| below 0.18.
  const t = (rest - 1) / (rest + 1);
  let sum = 0;
  for (let power = 23; power >= 1; power -= 2) sum = sum * t * t + 1 / power;
  return twos * Math.LN2 + 2 * t * sum;
}

/** The y with y^n = value, value above 1, by bisection down to neighbouring doubles. */
function nthRoot(value: number, n: number): number {
  let low = 1;
  let high = value;
  for (;;) {
    const middle = low + (high - low) / 2;
    if (middle <= low || middle >= high) return low;
    let power = 1;
    for (let index = 0; index < n && power <= value; index++) power *= middle;
    if (power <= value) low = middle;
    else high = middle;
  }
}

// pi / 2 in three parts of at most 33 bits, so that a part times a quarter-turn count below 2^20 is exact (fdlibm).
const HALF_PI_1 = 1.5707963267341256;
const HALF_PI_2 = 6.077100506303966e-11;
const HALF_PI_3 = 2.0222662487959506e-21;
const QUARTERS = 0.6366197723675814;

/** sin(angle), |angle| below 2^20, to within 1e-15. */
export function sine(angle: number): number {
  const quarter = Math.round(angle * QUARTERS);
  return sineOfQuarter(angle, quarter, 0);
}

/** cos(angle), |angle| below 2^20, to within 1e-15. */
export function cosine(angle: number): number {
  const quarter = Math.round(angle * QUARTERS);
  return sineOfQuarter(angle, quarter, 1);
}

/** sin of `angle` turned on by `ahead` quarter turns, by Taylor series on the rest in [-pi/4, pi/4]. */
function sineOfQuarter(angle: number, quarter: number, ahead: number): number {
  const rest = angle - quarter * HALF_PI_1 - quarter * HALF_PI_2 - quarter * HALF_PI_3;
  const turn = (((quarter + ahead) % 4) + 4) % 4;
  const square = rest * rest;
  const value = turn % 2 === 0 ? rest * series(square, 2) : series(square, 1);
  return turn < 2 ? value : -value;
}

/** 1 - s/(a(a+1)) + s^2/(a(a+1)(a+2)(a+3)) - ...: sin(x)/x for a = 2, cos(x) for a = 1, with s = x^2. */
function series(square: number, first: number): number {
  let sum = 1;
  for (let factor = first + 16; factor >= first; factor -= 2) sum = 1 - (square * sum) / (factor * (factor + 1));
  return sum;
}
