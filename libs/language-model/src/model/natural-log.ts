// The natural logarithm. The engines' Math.log differs in its last bits; this one is built from IEEE additions,
// multiplications and divisions alone: the same bits everywhere.

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
