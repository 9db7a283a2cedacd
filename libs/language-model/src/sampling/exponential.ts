// The exponential function. The engines' Math.exp differs in its last bits; this one is built from IEEE additions and
// multiplications alone: the same bits everywhere, so that a seed draws the same token everywhere.

/** ln 2 in two parts: the first has its last 20 bits zero, so that small multiples of it are exact (fdlibm). */
const LN2_HIGH = 0.6931471803691238;
const LN2_LOW = 1.9082149292705877e-10;
/** Below it the result is 0. */
const LEAST = -745.2;

/** 2^-k for k from 0 to 1075. */
const HALVINGS = new Float64Array(1076);
for (let k = 0, power = 1; k < HALVINGS.length; k++, power /= 2) HALVINGS[k] = power;

/** e^x for x of at most 0, to within 2^-51 of its size: 1 for 0, and 0 for what is too small. NaN gives NaN. */
export function exponential(x: number): number {
  if (x < LEAST) return 0;
  // x = rest - halvings ln 2, |rest| at most ln(2) / 2.
  const halvings = (0.5 - x * Math.LOG2E) | 0;
  const rest = x + halvings * LN2_HIGH + halvings * LN2_LOW;
  // Taylor's series to rest^13 / 13!, in pairs, which do not wait for each other.
  const square = rest * rest;
  const fourth = square * square;
  const low = 1 + rest + square * (1 / 2 + rest * (1 / 6));
  const second = 1 / 24 + rest * (1 / 120) + square * (1 / 720 + rest * (1 / 5040));
  const third = 1 / 40320 + rest * (1 / 362880) + square * (1 / 3628800 + rest * (1 / 39916800));
  const last = 1 / 479001600 + rest * (1 / 6227020800);
  return (low + fourth * (second + fourth * (third + fourth * last))) * (HALVINGS[halvings] ?? Number.NaN);
}
