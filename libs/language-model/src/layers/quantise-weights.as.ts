// Weights on their way into memory in int8, with an f32 scale for every group of 32 consecutive elements of a row.
//
//   w [rows, cols] f32, bf16 or f16 -> q [rows, cols] i8, v [rows, groups] f32; groups = cols / 32 rounded up
//   v = max|w| / 127 of the group, q = w / v rounded to the nearest integer, ties to even, from -127 to 127
//
// Grid: none, one call takes a block of rows. Memory traffic: w once (the second time from the L1 cache), q and v once.
// Numerical contract: weights are widened exactly; v and w / v are rounded to f32. A group of zeros, or of numbers so
// small that v is zero in f32, has v = 0 and q = 0.

import { bytesOver, load1, load4 } from "./floats.as";

/** The largest magnitude of count elements, at most 32; NaN when one is NaN. */
// @ts-ignore: decorator
@inline
function largest<W>(at: usize, count: i32): f32 {
  let most: f32 = 0;
  if (count == 32) {
    let most4 = f32x4.splat(0);
    for (let k: usize = 0; k < 128; k += 16) most4 = f32x4.max(most4, f32x4.abs(load4<W>(at + bytesOver<W>(k))));
    most = max<f32>(
      max<f32>(f32x4.extract_lane(most4, 0), f32x4.extract_lane(most4, 1)),
      max<f32>(f32x4.extract_lane(most4, 2), f32x4.extract_lane(most4, 3)),
    );
  } else {
    for (let i: usize = 0; i < <usize>count; i++) most = max<f32>(most, abs<f32>(load1<W>(at + bytesOver<W>(i << 2))));
  }
  return most;
}

// @ts-ignore: decorator
@inline
function integers(values: v128, scale: v128): v128 {
  const steps = f32x4.nearest(f32x4.div(values, scale));
  return i32x4.trunc_sat_f32x4_s(f32x4.max(f32x4.min(steps, f32x4.splat(127)), f32x4.splat(-127)));
}

// @ts-ignore: decorator
@inline
function quantise<W>(w: usize, q: usize, v: usize, rows: i32, cols: i32): i32 {
  for (let r: i32 = 0; r < rows; r++) {
    for (let left = cols; left > 0; left -= 32) {
      const count = min<i32>(left, 32);
      const most = largest<W>(w, count);
      if (!(most < Infinity)) return r;
      const scale = most / 127;
      store<f32>(v, scale);
      v += 4;
      if (scale == 0) memory.fill(q, 0, <usize>count);
      else if (count == 32) {
        const scales = f32x4.splat(scale);
        for (let i: usize = 0; i < 32; i += 16) {
          const from = w + bytesOver<W>(i << 2);
          const low = i16x8.narrow_i32x4_s(
            integers(load4<W>(from), scales),
            integers(load4<W>(from + bytesOver<W>(16)), scales),
          );
          const high = i16x8.narrow_i32x4_s(
            integers(load4<W>(from + bytesOver<W>(32)), scales),
            integers(load4<W>(from + bytesOver<W>(48)), scales),
          );
          v128.store(q + i, i8x16.narrow_i16x8_s(low, high));
        }
      } else {
        const scales = f32x4.splat(scale);
        for (let i: usize = 0; i < <usize>count; i++) {
          const integer = integers(f32x4.splat(load1<W>(w + bytesOver<W>(i << 2))), scales);
          store<i8>(q + i, <i8>i32x4.extract_lane(integer, 0));
        }
      }
      q += <usize>count;
      w += bytesOver<W>(<usize>count << 2);
    }
  }
  return -1;
}

/** Quantises rows; returns the index of the first row with a NaN or an infinity, where it stopped, or -1. */
export function quantiseF32(w: usize, q: usize, v: usize, rows: i32, cols: i32): i32 {
  return quantise<f32>(w, q, v, rows, cols);
}

/** The same of bf16. */
export function quantiseBf16(w: usize, q: usize, v: usize, rows: i32, cols: i32): i32 {
  return quantise<i16>(w, q, v, rows, cols);
}

/** The same of f16. */
export function quantiseF16(w: usize, q: usize, v: usize, rows: i32, cols: i32): i32 {
  return quantise<u16>(w, q, v, rows, cols);
}
