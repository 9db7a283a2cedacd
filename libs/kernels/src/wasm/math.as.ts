// Transcendental functions on f32x4, within 2 units in the last place. They are the only ones the wasm backend uses,
// so its results are the same bits in every runtime. Results below the smallest normal f32 are 0.
// Range reduction and coefficients follow Cephes (expf, logf, tanhf).

import {
  EXP2_1,
  EXP2_2,
  EXP2_3,
  EXP2_4,
  EXP2_5,
  EXP2_6,
  EXP2_FLOOR,
  EXP_2,
  EXP_3,
  EXP_4,
  EXP_5,
  EXP_6,
  EXP_7,
  EXP_FLOOR,
  LN2_HIGH,
  LN2_LOW,
  LOG2_E,
  ROUNDER,
} from "./constants.as";

/** 2^x. NaN gives NaN, -inf gives 0, overflow gives +inf. */
// @ts-ignore: decorator
@inline
export function exp2x4(x: v128): v128 {
  const clamped = f32x4.pmin(f32x4.pmax(x, f32x4.splat(-127)), f32x4.splat(128.5));
  const shifted = f32x4.add(clamped, f32x4.splat(12582912));
  const r = f32x4.mul(f32x4.sub(clamped, f32x4.sub(shifted, f32x4.splat(12582912))), f32x4.splat(0.69314718055994531));
  let p = f32x4.add(f32x4.mul(r, f32x4.splat(1.9875691500e-4)), f32x4.splat(1.3981999507e-3));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(8.3334519073e-3));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(4.1665795894e-2));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.6666665459e-1));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(5.0000001201e-1));
  p = f32x4.add(f32x4.add(f32x4.mul(p, f32x4.mul(r, r)), r), f32x4.splat(1));
  return finish(p, shifted, f32x4.lt(x, f32x4.splat(-126)), f32x4.ge(x, f32x4.splat(128)));
}

/** p * 2^n, n being the low bits of `shifted`, in two factors so that n = 128 works; 0 and inf where told. */
// @ts-ignore: decorator
@inline
function finish(p: v128, shifted: v128, underflow: v128, overflow: v128): v128 {
  const n = i32x4.sub(shifted, i32x4.splat(0x4b400000));
  const half = i32x4.shr_s(n, 1);
  const first = i32x4.shl(i32x4.add(half, i32x4.splat(127)), 23);
  const second = i32x4.shl(i32x4.add(i32x4.sub(n, half), i32x4.splat(127)), 23);
  const scaled = f32x4.mul(f32x4.mul(p, first), second);
  const large = v128.bitselect(f32x4.splat(Infinity), scaled, overflow);
  return v128.andnot(large, underflow);
}

/** e^x for x <= 0 (or NaN): what a softmax needs, in fewer steps. Below -87.7 it is 0. */
// @ts-ignore: decorator
@inline
export function expNegative4(x: v128): v128 {
  // The low bits of `shifted` are n + 127, n being the nearest integer to x / ln 2.
  const clamped = f32x4.pmax(x, EXP_FLOOR);
  const shifted = f32x4.add(f32x4.mul(clamped, LOG2_E), ROUNDER);
  const n = f32x4.sub(shifted, ROUNDER);
  const r = f32x4.add(f32x4.sub(clamped, f32x4.mul(n, LN2_HIGH)), f32x4.mul(n, LN2_LOW));
  let p = f32x4.add(f32x4.mul(r, EXP_7), EXP_6);
  p = f32x4.add(f32x4.mul(p, r), EXP_5);
  p = f32x4.add(f32x4.mul(p, r), EXP_4);
  p = f32x4.add(f32x4.mul(p, r), EXP_3);
  p = f32x4.add(f32x4.mul(p, r), EXP_2);
  p = f32x4.add(f32x4.mul(p, f32x4.mul(r, r)), r);
  // Below n = -126 the shifted bits are negative: a factor of 0.
  const factor = i32x4.max_s(i32x4.shl(shifted, 23), i32x4.splat(0));
  return f32x4.add(f32x4.mul(p, factor), factor);
}

/** 2^x for x <= 0 (or NaN). Below -126.5 it is 0. Coefficients of Cephes (exp2f). */
// @ts-ignore: decorator
@inline
export function exp2Negative4(x: v128): v128 {
  // The low bits of `shifted` are n + 127, n being the nearest integer to x.
  const clamped = f32x4.pmax(x, EXP2_FLOOR);
  const shifted = f32x4.add(clamped, ROUNDER);
  const r = f32x4.sub(clamped, f32x4.sub(shifted, ROUNDER));
  let p = f32x4.add(f32x4.mul(r, EXP2_6), EXP2_5);
  p = f32x4.add(f32x4.mul(p, r), EXP2_4);
  p = f32x4.add(f32x4.mul(p, r), EXP2_3);
  p = f32x4.add(f32x4.mul(p, r), EXP2_2);
  p = f32x4.add(f32x4.mul(p, r), EXP2_1);
  const factor = i32x4.max_s(i32x4.shl(shifted, 23), i32x4.splat(0));
  return f32x4.add(f32x4.mul(f32x4.mul(p, r), factor), factor);
}

/** ln x for x >= 0. 0 gives -inf, +inf gives +inf, NaN gives NaN. Subnormals count as the smallest normal. */
// @ts-ignore: decorator
@inline
export function log4(x: v128): v128 {
  const safe = f32x4.pmax(x, f32x4.splat(1.17549435e-38));
  // x = f * 2^e with f in [sqrt(1/2), sqrt(2)).
  const offset = i32x4.sub(safe, i32x4.splat(0x3f3504f3));
  const e = f32x4.convert_i32x4_s(i32x4.shr_s(offset, 23));
  const f = i32x4.add(v128.and(offset, i32x4.splat(0x007fffff)), i32x4.splat(0x3f3504f3));
  const r = f32x4.sub(f, f32x4.splat(1));
  const z = f32x4.mul(r, r);
  let p = f32x4.add(f32x4.mul(r, f32x4.splat(7.0376836292e-2)), f32x4.splat(-1.1514610310e-1));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.1676998740e-1));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(-1.2420140846e-1));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.4249322787e-1));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(-1.6668057665e-1));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(2.0000714765e-1));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(-2.4999993993e-1));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(3.3333331174e-1));
  let y = f32x4.mul(f32x4.mul(p, r), z);
  y = f32x4.add(y, f32x4.mul(e, f32x4.splat(-2.12194440e-4)));
  y = f32x4.sub(y, f32x4.mul(z, f32x4.splat(0.5)));
  y = f32x4.add(f32x4.add(r, y), f32x4.mul(e, f32x4.splat(0.693359375)));
  y = v128.bitselect(f32x4.splat(-Infinity), y, f32x4.eq(x, f32x4.splat(0)));
  const kept = v128.or(f32x4.ne(x, x), f32x4.eq(x, f32x4.splat(Infinity)));
  return v128.bitselect(x, y, kept);
}

/** log2 x, with the same special cases. */
// @ts-ignore: decorator
@inline
export function log2x4(x: v128): v128 {
  return f32x4.mul(log4(x), f32x4.splat(1.44269504088896341));
}

/** tanh x. */
// @ts-ignore: decorator
@inline
export function tanh4(x: v128): v128 {
  const magnitude = f32x4.abs(x);
  const z = f32x4.mul(x, x);
  let p = f32x4.add(f32x4.mul(z, f32x4.splat(-5.70498872745e-3)), f32x4.splat(2.06390887954e-2));
  p = f32x4.add(f32x4.mul(p, z), f32x4.splat(-5.37397155531e-2));
  p = f32x4.add(f32x4.mul(p, z), f32x4.splat(1.33314422036e-1));
  p = f32x4.add(f32x4.mul(p, z), f32x4.splat(-3.33332819422e-1));
  const near = f32x4.add(f32x4.mul(f32x4.mul(p, z), x), x);
  // tanh |x| = (1 - e) / (1 + e) with e = exp(-2 |x|).
  const e = expNegative4(f32x4.mul(magnitude, f32x4.splat(-2)));
  const far = f32x4.div(f32x4.sub(f32x4.splat(1), e), f32x4.add(f32x4.splat(1), e));
  const signed = v128.or(far, v128.and(x, i32x4.splat(0x80000000)));
  return v128.bitselect(near, signed, f32x4.lt(magnitude, f32x4.splat(0.625)));
}
