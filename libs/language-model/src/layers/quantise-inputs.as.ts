// Inputs of a linear layer in int8 weights, as int16 with an f32 scale for every group of 32.
//
//   x [tokens, ins] f32 -> q [tokens, groups, 32] i16, s [tokens, groups] f32; groups = ins / 32 rounded up
//   s = max|x| / 32767 of the group, q = x / s rounded to the nearest integer, ties to even
//
// Grid: none. Memory traffic: x once (the second time from the L1 cache), q and s once.
// Numerical contract: x / s is computed as x * (32767 / max|x|), both rounded to f32. A group whose elements all lie
// below 2^-110 counts as zeros (s = 0): its scale would lose precision. A group with a NaN or an infinity has s = NaN
// and q = 0. The elements of the last group beyond ins are left as they were and never read.

/** Below it a group counts as zeros. */
// @ts-ignore: decorator
@inline
const LEAST: f32 = reinterpret<f32>(0x08800000);

// @ts-ignore: decorator
@inline
function most4(at: usize): v128 {
  return f32x4.max(
    f32x4.max(f32x4.abs(v128.load(at)), f32x4.abs(v128.load(at, 16))),
    f32x4.max(f32x4.abs(v128.load(at, 32)), f32x4.abs(v128.load(at, 48))),
  );
}

/** The largest magnitude of count f32, at most 32; NaN when one is NaN. */
function largest(at: usize, count: i32): f32 {
  if (count == 32) {
    const most = f32x4.max(most4(at), most4(at + 64));
    return max<f32>(
      max<f32>(f32x4.extract_lane(most, 0), f32x4.extract_lane(most, 1)),
      max<f32>(f32x4.extract_lane(most, 2), f32x4.extract_lane(most, 3)),
    );
  }
  let most: f32 = 0;
  for (let i: usize = 0; i < <usize>count; i++) most = max<f32>(most, abs<f32>(load<f32>(at + (i << 2))));
  return most;
}

// @ts-ignore: decorator
@inline
function integers(values: v128, factor: v128): v128 {
  return i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(values, factor)));
}

export function quantiseInputs(x: usize, q: usize, s: usize, tokens: i32, ins: i32): void {
  for (let t: i32 = 0; t < tokens; t++) {
    for (let left = ins; left > 0; left -= 32) {
      const count = min<i32>(left, 32);
      const most = largest(x, count);
      let scale: f32 = 0;
      let factor: f32 = 0;
      if (!(most < Infinity)) scale = NaN;
      else if (most >= LEAST) {
        scale = most / 32767;
        factor = <f32>32767 / most;
      }
      const factors = f32x4.splat(factor);
      store<f32>(s, scale);
      if (count == 32) {
        for (let i: usize = 0; i < 32; i += 8) {
          const from = x + (i << 2);
          const low = integers(v128.load(from), factors);
          v128.store(q + (i << 1), i16x8.narrow_i32x4_s(low, integers(v128.load(from, 16), factors)));
        }
      } else {
        for (let i: usize = 0; i < <usize>count; i++) {
          const integer = integers(f32x4.splat(load<f32>(x + (i << 2))), factors);
          store<i16>(q + (i << 1), <i16>i32x4.extract_lane(integer, 0));
        }
      }
      s += 4;
      q += 64;
      x += <usize>count << 2;
    }
  }
}
