// The order in which a linear layer adds up its products, the same for every kernel and every dtype.
//
// Eight sums: number r adds the products of the elements i with i mod 8 = r in ascending order. Sums 0 and 1, 2 and 3,
// 4 and 5, 6 and 7 make four (p), which make (p0 + p2) + (p1 + p3); the last ins mod 8 products are added to that one
// by one. Sums lie in two vectors: those of even number and those of odd number, which is how elements of 16 bits come
// apart without shuffles, or the first four and the last four, which is how f32 lie in memory.

import { bytesOver, load1 } from "./floats.as";

// @ts-ignore: decorator
@inline
export function muladd(sums: v128, a: v128, b: v128): v128 {
  return f32x4.add(sums, f32x4.mul(a, b));
}

// @ts-ignore: decorator
@inline
function total4(p: v128): f32 {
  return f32x4.extract_lane(p, 0) + f32x4.extract_lane(p, 2) + (f32x4.extract_lane(p, 1) + f32x4.extract_lane(p, 3));
}

/** The total of the sums of even and of odd number. */
// @ts-ignore: decorator
@inline
export function totalOfEvensAndOdds(even: v128, odd: v128): f32 {
  return total4(f32x4.add(even, odd));
}

/** The total of the first four sums and the last four. */
// @ts-ignore: decorator
@inline
export function totalOfHalves(first: v128, last: v128): f32 {
  return total4(f32x4.add(evenLanes(first, last), oddLanes(first, last)));
}

/** Of eight f32, those of even number. */
// @ts-ignore: decorator
@inline
export function evenLanes(first: v128, last: v128): v128 {
  return v128.shuffle<f32>(first, last, 0, 2, 4, 6);
}

/** Of eight f32, those of odd number. */
// @ts-ignore: decorator
@inline
export function oddLanes(first: v128, last: v128): v128 {
  return v128.shuffle<f32>(first, last, 1, 3, 5, 7);
}

/** Adds the last products, those beyond the multiple of eight; offsets are those of f32. */
// @ts-ignore: decorator
@inline
export function withTail<W>(sum: f32, x: usize, w: usize, from: usize, to: usize): f32 {
  for (let k = from; k < to; k += 4) sum += load<f32>(x + k) * load1<W>(w + bytesOver<W>(k));
  return sum;
}
