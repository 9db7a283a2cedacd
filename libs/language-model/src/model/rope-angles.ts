// Angles of the rotary position embedding. The engines' Math.pow and Math.log differ in their last bits, so everything
// here is built from IEEE additions, multiplications and divisions alone: the same bits everywhere.

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
