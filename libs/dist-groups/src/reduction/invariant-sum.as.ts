// The sum of floats that depends on its addends alone: not on how many ranks bring them, nor in which order.
//
// Grid: one call, one thread: the calling rank; a run of the operand table (operands.as.ts).
// Memory traffic: every f32 and bf16 source element is read twice, for the largest magnitude and for the sum; every f16
//   one once; every destination element is written once.
// Numerical contract, with e = floor(log2(the largest magnitude)), at least -126:
//   f32, bf16: each addend is rounded to a multiple of q = 2^(e - 44), to nearest, ties to even. The sum of at most 255
//   of these is below 2^53 q: f64 holds it and every part of it, in any order. It is rounded once to the dtype.
//   Beside the exact sum: at most n 2^-45 2^e, and half a unit of the dtype for the one rounding.
//   f16: multiples of 2^-24 below 2^16, whose sum f64 holds: the exact sum, rounded once.
//   Zeros change nothing. A sum that is 0 is +0. NaN, or infinities of both signs, give NaN with the bits of the quiet
//   one; else an infinity gives itself.
import { F16, F32, loadElement, loadVector, storeElement, storeVector } from "./elements.as";
import { operand, stride } from "./operands.as";

const SIGNLESS: i32 = 0x7fffffff;

/** 1.5 * 2^(e + 8) for lanes 0 and 1 of the magnitudes: adding it to an f64 below 2^(e + 1) rounds to multiples of q. */
@inline function rounderOf(largest: v128): v128 {
  const exponent = i32x4.max_u(i32x4.shr_u(largest, 23), i32x4.splat(1));
  const words = v128.or(i32x4.shl(i32x4.add(exponent, i32x4.splat(1023 + 8 - 127)), 20), i32x4.splat(0x80000));
  return i64x2.shl(i64x2.extend_low_i32x4_u(words), 32);
}

@inline function rounded(value: v128, rounder: v128): v128 {
  return f64x2.sub(f64x2.add(value, rounder), rounder);
}

/** Lanes 2 and 3 as lanes 0 and 1. */
@inline function upper(value: v128): v128 {
  return i8x16.shuffle(value, value, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
}

/** Two masks of two lanes as one of four. */
@inline function joined(low: v128, high: v128): v128 {
  return i8x16.shuffle(low, high, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
}

/**
 * Four sums as f32: rounded to nearest for f32; for 16-bit dtypes rounded to odd, so that rounding these to nearest is
 * the only rounding (f32 has more than two bits beyond theirs).
 */
@inline function narrowed(dtype: i32, low: v128, high: v128): v128 {
  const a = f32x4.demote_f64x2_zero(low);
  const b = f32x4.demote_f64x2_zero(high);
  let value = i8x16.shuffle(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
  if (dtype != F32) {
    const lowBack = f64x2.promote_low_f32x4(a);
    const highBack = f64x2.promote_low_f32x4(b);
    const differs = joined(f64x2.ne(lowBack, low), f64x2.ne(highBack, high));
    const tooLarge = joined(
      f64x2.gt(f64x2.abs(lowBack), f64x2.abs(low)), f64x2.gt(f64x2.abs(highBack), f64x2.abs(high)),
    );
    // A mask is -1: magnitudes that were rounded up lose one unit.
    value = v128.or(i32x4.add(value, tooLarge), v128.and(differs, i32x4.splat(1)));
  }
  const magnitude = v128.and(value, i32x4.splat(SIGNLESS));
  return v128.bitselect(i32x4.splat(0x7fc00000), value, i32x4.gt_s(magnitude, i32x4.splat(0x7f800000)));
}

/** Four elements of source `k`, or one in all lanes, at `offset` bytes from its address. */
@inline function loadAt(dtype: i32, table: usize, k: i32, offset: usize, isVector: bool): v128 {
  const address = (load<u32>(operand(table, k)) as usize) + offset;
  return isVector ? loadVector(dtype, address) : loadElement(dtype, address);
}

/** The sum of the elements `index` of every source, which steps by its stride in dimension `dim`. */
@inline function sumAt(dtype: i32, table: usize, sources: i32, index: usize, dim: i32, isVector: bool): v128 {
  let largest = i32x4.splat(0);
  if (dtype != F16) {
    for (let k = 1; k <= sources; k++) {
      const value = loadAt(dtype, table, k, index * <usize>stride(table, k, dim), isVector);
      largest = i32x4.max_u(largest, v128.and(value, i32x4.splat(SIGNLESS)));
    }
  }
  const lowRounder = rounderOf(largest);
  const highRounder = rounderOf(upper(largest));
  let low = f64x2.splat(0);
  let high = f64x2.splat(0);
  for (let k = 1; k <= sources; k++) {
    const value = loadAt(dtype, table, k, index * <usize>stride(table, k, dim), isVector);
    const a = f64x2.promote_low_f32x4(value);
    const b = f64x2.promote_low_f32x4(upper(value));
    low = f64x2.add(low, dtype == F16 ? a : rounded(a, lowRounder));
    high = f64x2.add(high, dtype == F16 ? b : rounded(b, highRounder));
  }
  return narrowed(dtype, low, high);
}

/** destination = source 1 + ... + source `sources`, for `count` elements along dimension `dim` of a run. */
@inline export function invariantSum(
  dtype: i32, table: usize, sources: i32, count: usize, dim: i32, contiguous: bool,
): void {
  let at: usize = 0;
  if (contiguous) {
    for (; at + 4 <= count; at += 4) {
      const target = (load<u32>(operand(table, 0)) as usize) + at * <usize>stride(table, 0, dim);
      storeVector(dtype, target, sumAt(dtype, table, sources, at, dim, true));
    }
  }
  for (; at < count; at++) {
    const target = (load<u32>(operand(table, 0)) as usize) + at * <usize>stride(table, 0, dim);
    storeElement(dtype, target, sumAt(dtype, table, sources, at, dim, false));
  }
}
