// Linear layer of a few tokens, one by one (the product and its contract: linear.as.ts).
//
// Grid: none. Ownership: four weight rows at a time, one from each quarter of w: four long streams of memory, which a
// processor fetches ahead about twice as fast as one stream, and three times as fast as four rows side by side.
// Memory traffic: w once (for tokens beyond the first from the L1 cache), x once per four rows (from the L1 cache).
// Numerical contract: linear-sums.as.ts. Weights of 16 bits are taken apart into elements of even and of odd number, so
// x is too, once a call. Finite f16 are left over 2^112, by which x is multiplied instead: neither product rounds, so
// their product is rounded once, as that of the weight itself. Where a token has an element of 2^16 or more, for which
// that does not hold, its weights are widened one by one instead.

import { bytesOver, evens, F16_REBASE, isRebased, KEY_BYTES, odds, storeKeys } from "./floats.as";
import { evenLanes, muladd, oddLanes, totalOfEvensAndOdds, totalOfHalves, withTail } from "./linear-sums.as";

/** The weights from address w on that go with the first of two vectors of x; `bytes` are the first 16 there. */
// @ts-ignore: decorator
@inline
function first<W>(bytes: v128, even: v128, places: v128): v128 {
  return isFloat<W>() ? bytes : evens<W>(bytes, even, places);
}

/** Those that go with the second. */
// @ts-ignore: decorator
@inline
function second<W>(bytes: v128, w: usize, odd: v128, places: v128): v128 {
  return isFloat<W>() ? v128.load(w, 16) : odds<W>(bytes, odd, places);
}

/** The finished sum: `a` and `b` of a body of x, and the tail. */
// @ts-ignore: decorator
@inline
function finished<W>(a: v128, b: v128, x: usize, w: usize, body: usize, bytes: usize): f32 {
  return withTail<W>(isFloat<W>() ? totalOfHalves(a, b) : totalOfEvensAndOdds(a, b), x, w, body, bytes);
}

/** One token against one weight row; `split` is x as the weights want it. */
function dot<W>(split: usize, x: usize, w: usize, bytes: usize, keys: usize): f32 {
  const even = v128.load(keys);
  const odd = v128.load(keys, 16);
  const places = v128.load(keys, 32);
  const body = bytes & ~31;
  let a = f32x4.splat(0);
  let b = a;
  for (let k: usize = 0; k < body; k += 32) {
    const at = w + bytesOver<W>(k);
    const v = v128.load(at);
    a = muladd(a, v128.load(split + k), first<W>(v, even, places));
    b = muladd(b, v128.load(split + k, 16), second<W>(v, at, odd, places));
  }
  return finished<W>(a, b, x, w, body, bytes);
}

function rows<W>(
  split: usize,
  x: usize,
  w: usize,
  y: usize,
  tokens: usize,
  outs: usize,
  ins: usize,
  keys: usize,
): void {
  const even = v128.load(keys);
  const odd = v128.load(keys, 16);
  const places = v128.load(keys, 32);
  const bytes = ins << 2;
  const body = bytes & ~31;
  const pitch = bytesOver<W>(bytes);
  const quarter = outs >> 2;
  const jump = quarter * pitch;
  const yJump = quarter << 2;
  const yPitch = outs << 2;
  for (let o: usize = 0; o < quarter; o++) {
    const w0 = w + o * pitch;
    const w1 = w0 + jump;
    const w2 = w1 + jump;
    const w3 = w2 + jump;
    for (let t: usize = 0; t < tokens; t++) {
      const own = x + t * bytes;
      const at = split + t * bytes;
      let a0 = f32x4.splat(0);
      let b0 = a0;
      let a1 = a0;
      let b1 = a0;
      let a2 = a0;
      let b2 = a0;
      let a3 = a0;
      let b3 = a0;
      for (let k: usize = 0; k < body; k += 32) {
        const u = v128.load(at + k);
        const v = v128.load(at + k, 16);
        const j = bytesOver<W>(k);
        let r = v128.load(w0 + j);
        a0 = muladd(a0, u, first<W>(r, even, places));
        b0 = muladd(b0, v, second<W>(r, w0 + j, odd, places));
        r = v128.load(w1 + j);
        a1 = muladd(a1, u, first<W>(r, even, places));
        b1 = muladd(b1, v, second<W>(r, w1 + j, odd, places));
        r = v128.load(w2 + j);
        a2 = muladd(a2, u, first<W>(r, even, places));
        b2 = muladd(b2, v, second<W>(r, w2 + j, odd, places));
        r = v128.load(w3 + j);
        a3 = muladd(a3, u, first<W>(r, even, places));
        b3 = muladd(b3, v, second<W>(r, w3 + j, odd, places));
      }
      let to = y + t * yPitch + (o << 2);
      store<f32>(to, finished<W>(a0, b0, own, w0, body, bytes));
      to += yJump;
      store<f32>(to, finished<W>(a1, b1, own, w1, body, bytes));
      to += yJump;
      store<f32>(to, finished<W>(a2, b2, own, w2, body, bytes));
      to += yJump;
      store<f32>(to, finished<W>(a3, b3, own, w3, body, bytes));
    }
  }
  for (let o = quarter << 2; o < outs; o++) {
    for (let t: usize = 0; t < tokens; t++) {
      const value = dot<W>(split + t * bytes, x + t * bytes, w + o * pitch, bytes, keys);
      store<f32>(y + t * yPitch + (o << 2), value);
    }
  }
}

/** Elements of even number, then of odd number, eight by eight, times a factor; the largest magnitudes of them. */
function split(x: usize, to: usize, bytes: usize, factor: f32): v128 {
  const factors = f32x4.splat(factor);
  let most = f32x4.splat(0);
  for (let k: usize = 0; k < bytes; k += 32) {
    const a = v128.load(x + k);
    const b = v128.load(x + k, 16);
    most = f32x4.max(most, f32x4.max(f32x4.abs(a), f32x4.abs(b)));
    v128.store(to + k, f32x4.mul(factors, evenLanes(a, b)));
    v128.store(to + k, f32x4.mul(factors, oddLanes(a, b)), 16);
  }
  return most;
}

/** y [tokens, outs] = x [tokens, ins] times the transpose of w [outs, ins], for a few tokens. */
export function productByRows<W>(
  x: usize,
  w: usize,
  y: usize,
  tokens: usize,
  outs: usize,
  ins: usize,
  scratch: usize,
): void {
  if (isFloat<W>()) {
    rows<W>(x, x, w, y, tokens, outs, ins, scratch);
    return;
  }
  const bytes = ins << 2;
  const to = scratch + KEY_BYTES;
  let isLarge = false;
  for (let t: usize = 0; t < tokens; t++) {
    const most = split(x + t * bytes, to + t * bytes, bytes & ~31, isRebased<W>() ? F16_REBASE : 1);
    if (v128.any_true(f32x4.ge(most, f32x4.splat(65536)))) isLarge = true;
  }
  if (isRebased<W>()) {
    if (isLarge) {
      productByRows<u16>(x, w, y, tokens, outs, ins, scratch);
      return;
    }
  }
  storeKeys<W>(scratch);
  rows<W>(to, x, w, y, tokens, outs, ins, scratch);
}
