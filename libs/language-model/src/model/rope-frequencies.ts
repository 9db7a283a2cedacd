// Frequencies of the rotary position embedding. The engines' Math.pow differs in its last bits, so everything here is
// built from IEEE additions, multiplications and divisions alone: the same bits everywhere.

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
