// Exponentials and logarithms of which every runtime makes the same bits: the operations of IEEE 754 alone, in a fixed
// order. Math.exp and its like differ in the last place from one engine to another.

/** ln 2, in two parts: the first has so few bits that its product with an exponent is exact. */
const LN2_HIGH = 0.6931471803691238;
const LN2_LOW = 1.9082149292705877e-10;
const words = new DataView(new ArrayBuffer(8));

/** 2^k for integers k from -1022 to 1023. */
function powerOfTwo(k: number): number {
  words.setUint32(0, (k + 1023) << 20);
  words.setUint32(4, 0);
  return words.getFloat64(0);
}

/** x * 2^k, also where the result is subnormal. */
function scaled(x: number, k: number): number {
  if (k > 1023) return x * powerOfTwo(1023) * powerOfTwo(k - 1023);
  return k < -1000 ? x * powerOfTwo(-1000) * powerOfTwo(k + 1000) : x * powerOfTwo(k);
}

/** e^r for |r| up to ln(2) / 2, by its series. */
function expNearZero(r: number): number {
  let sum = 1;
  for (let term = 18; term >= 1; term--) sum = 1 + (r / term) * sum;
  return sum;
}

/** e^x. */
export function exp(x: number): number {
  if (Number.isNaN(x)) return x;
  if (x > 709.7) return Number.POSITIVE_INFINITY;
  if (x < -745) return 0;
  const k = Math.round(x / Math.LN2);
  return scaled(expNearZero(x - k * LN2_HIGH - k * LN2_LOW), k);
}

/** 2^x. */
export function exp2(x: number): number {
  if (Number.isNaN(x)) return x;
  if (x > 1023.9) return Number.POSITIVE_INFINITY;
  if (x < -1074) return 0;
  const k = Math.round(x);
  return scaled(expNearZero((x - k) * LN2_HIGH + (x - k) * LN2_LOW), k);
}

/** x as m * 2^e with m from sqrt(1/2) to sqrt(2), for positive normal x; and ln(m). */
function logParts(x: number): { e: number; ln: number } {
  words.setFloat64(0, x);
  let e = (words.getUint32(0) >>> 20) - 1023;
  let m = x / powerOfTwo(e);
  if (m > Math.SQRT2) {
    m /= 2;
    e += 1;
  }
  const s = (m - 1) / (m + 1);
  let sum = 0;
  for (let odd = 27; odd >= 1; odd -= 2) sum = sum * s * s + 1 / odd;
  return { e, ln: 2 * s * sum };
}

function withEdges(x: number, of: (x: number) => number): number {
  if (Number.isNaN(x) || x < 0) return Number.NaN;
  if (x === 0) return Number.NEGATIVE_INFINITY;
  if (x === Number.POSITIVE_INFINITY) return x;
  return of(x);
}

/** Natural logarithm of a number that is not subnormal. */
export function log(x: number): number {
  return withEdges(x, (inner) => {
    const { e, ln } = logParts(inner);
    return e * LN2_HIGH + (e * LN2_LOW + ln);
  });
}

/** Logarithm to base 2 of a number that is not subnormal. */
export function log2(x: number): number {
  return withEdges(x, (inner) => {
    const { e, ln } = logParts(inner);
    return e + ln / Math.LN2;
  });
}

/** Hyperbolic tangent. */
export function tanh(x: number): number {
  if (Number.isNaN(x)) return x;
  const power = exp(-2 * Math.abs(x));
  return (Math.sign(x) * (1 - power)) / (1 + power);
}
