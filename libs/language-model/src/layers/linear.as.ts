// Linear layer (matrix product with a row-major weight).
//
//   x [tokens, ins] f32, w [outs, ins] f32, bf16 or f16, y [tokens, outs] f32:
//   y[t, o] = sum over i of x[t, i] * w[o, i]
//
// Grid: none, one call does the whole product on the calling thread.
// Ownership: a block of 4 weight rows stays in the L1 cache while all tokens pass over it, 3 tokens at a time (12
// accumulators), so each weight row is read from memory once per call and prefill is bound by arithmetic. One or two
// tokens (decode) take 8 weight rows at a time and are bound by reading w.
// Memory traffic: w once, in its own dtype, x once per 4 or 8 outputs (from the caches), y once.
// Numerical contract: weights are widened exactly, so that the bits are those of a product with the weights in f32.
// Every element is summed in the same order whatever the block it falls in: lane l of four adds the products with
// i mod 4 = l in ascending order, then (l0 + l1) + (l2 + l3), then the last ins mod 4 products one by one. So a
// token's result does not depend on how many tokens are computed with it.
//
// W is the weights' type, as in floats.as.ts. `bytes` and offsets k are those of x; bytesOver<W> gives those of w.

import { bytesOver, firstFour, load1, load4, nextFour } from "./floats.as";

// @ts-ignore: decorator
@inline
function total(acc: v128): f32 {
  return (
    f32x4.extract_lane(acc, 0) + f32x4.extract_lane(acc, 1) + (f32x4.extract_lane(acc, 2) + f32x4.extract_lane(acc, 3))
  );
}

/** Adds the last products, those beyond the multiple of four. */
// @ts-ignore: decorator
@inline
function withTail<W>(sum: f32, x: usize, w: usize, from: usize, to: usize): f32 {
  for (let k = from; k < to; k += 4) sum += load<f32>(x + k) * load1<W>(w + bytesOver<W>(k));
  return sum;
}

// @ts-ignore: decorator
@inline
function muladd(acc: v128, a: v128, b: v128): v128 {
  return f32x4.add(acc, f32x4.mul(a, b));
}

/** Adds the products with four weights and with the four that follow them. */
// @ts-ignore: decorator
@inline
function muladd2<W>(acc: v128, v: v128, u: v128, w: usize): v128 {
  const first = v128.load(w);
  return muladd(muladd(acc, v, firstFour<W>(first)), u, nextFour<W>(first, w));
}

function dot<W>(x: usize, w: usize, bytes: usize): f32 {
  const body = bytes & ~15;
  let acc = f32x4.splat(0);
  for (let k: usize = 0; k < body; k += 16) acc = muladd(acc, v128.load(x + k), load4<W>(w + bytesOver<W>(k)));
  return withTail<W>(total(acc), x, w, body, bytes);
}

/** One token against 8 weight rows. */
function oneByEight<W>(x: usize, w: usize, y: usize, bytes: usize): void {
  const body = bytes & ~15;
  const pairs = bytes & ~31;
  const pitch = bytesOver<W>(bytes);
  const w1 = w + pitch;
  const w2 = w1 + pitch;
  const w3 = w2 + pitch;
  const w4 = w3 + pitch;
  const w5 = w4 + pitch;
  const w6 = w5 + pitch;
  const w7 = w6 + pitch;
  let a0 = f32x4.splat(0);
  let a1 = a0;
  let a2 = a0;
  let a3 = a0;
  let a4 = a0;
  let a5 = a0;
  let a6 = a0;
  let a7 = a0;
  let k: usize = 0;
  for (; k < pairs; k += 32) {
    const v = v128.load(x + k);
    const u = v128.load(x + k, 16);
    const j = bytesOver<W>(k);
    a0 = muladd2<W>(a0, v, u, w + j);
    a1 = muladd2<W>(a1, v, u, w1 + j);
    a2 = muladd2<W>(a2, v, u, w2 + j);
    a3 = muladd2<W>(a3, v, u, w3 + j);
    a4 = muladd2<W>(a4, v, u, w4 + j);
    a5 = muladd2<W>(a5, v, u, w5 + j);
    a6 = muladd2<W>(a6, v, u, w6 + j);
    a7 = muladd2<W>(a7, v, u, w7 + j);
  }
  if (k < body) {
    const v = v128.load(x + k);
    const j = bytesOver<W>(k);
    a0 = muladd(a0, v, load4<W>(w + j));
    a1 = muladd(a1, v, load4<W>(w1 + j));
    a2 = muladd(a2, v, load4<W>(w2 + j));
    a3 = muladd(a3, v, load4<W>(w3 + j));
    a4 = muladd(a4, v, load4<W>(w4 + j));
    a5 = muladd(a5, v, load4<W>(w5 + j));
    a6 = muladd(a6, v, load4<W>(w6 + j));
    a7 = muladd(a7, v, load4<W>(w7 + j));
  }
  store<f32>(y, withTail<W>(total(a0), x, w, body, bytes));
  store<f32>(y, withTail<W>(total(a1), x, w1, body, bytes), 4);
  store<f32>(y, withTail<W>(total(a2), x, w2, body, bytes), 8);
  store<f32>(y, withTail<W>(total(a3), x, w3, body, bytes), 12);
  store<f32>(y, withTail<W>(total(a4), x, w4, body, bytes), 16);
  store<f32>(y, withTail<W>(total(a5), x, w5, body, bytes), 20);
  store<f32>(y, withTail<W>(total(a6), x, w6, body, bytes), 24);
  store<f32>(y, withTail<W>(total(a7), x, w7, body, bytes), 28);
}

/** Three tokens against 4 weight rows. */
function threeByFour<W>(x: usize, w: usize, y: usize, bytes: usize, yBytes: usize): void {
  const body = bytes & ~15;
  const x1 = x + bytes;
  const x2 = x1 + bytes;
  const pitch = bytesOver<W>(bytes);
  const w1 = w + pitch;
  const w2 = w1 + pitch;
  const w3 = w2 + pitch;
  let a00 = f32x4.splat(0);
  let a01 = a00;
  let a02 = a00;
  let a03 = a00;
  let a10 = a00;
  let a11 = a00;
  let a12 = a00;
  let a13 = a00;
  let a20 = a00;
  let a21 = a00;
  let a22 = a00;
  let a23 = a00;
  for (let k: usize = 0; k < body; k += 16) {
    const j = bytesOver<W>(k);
    const v0 = v128.load(x + k);
    const v1 = v128.load(x1 + k);
    const v2 = v128.load(x2 + k);
    let r = load4<W>(w + j);
    a00 = muladd(a00, v0, r);
    a10 = muladd(a10, v1, r);
    a20 = muladd(a20, v2, r);
    r = load4<W>(w1 + j);
    a01 = muladd(a01, v0, r);
    a11 = muladd(a11, v1, r);
    a21 = muladd(a21, v2, r);
    r = load4<W>(w2 + j);
    a02 = muladd(a02, v0, r);
    a12 = muladd(a12, v1, r);
    a22 = muladd(a22, v2, r);
    r = load4<W>(w3 + j);
    a03 = muladd(a03, v0, r);
    a13 = muladd(a13, v1, r);
    a23 = muladd(a23, v2, r);
  }
  store<f32>(y, withTail<W>(total(a00), x, w, body, bytes));
  store<f32>(y, withTail<W>(total(a01), x, w1, body, bytes), 4);
  store<f32>(y, withTail<W>(total(a02), x, w2, body, bytes), 8);
  store<f32>(y, withTail<W>(total(a03), x, w3, body, bytes), 12);
  y += yBytes;
  store<f32>(y, withTail<W>(total(a10), x1, w, body, bytes));
  store<f32>(y, withTail<W>(total(a11), x1, w1, body, bytes), 4);
  store<f32>(y, withTail<W>(total(a12), x1, w2, body, bytes), 8);
  store<f32>(y, withTail<W>(total(a13), x1, w3, body, bytes), 12);
  y += yBytes;
  store<f32>(y, withTail<W>(total(a20), x2, w, body, bytes));
  store<f32>(y, withTail<W>(total(a21), x2, w1, body, bytes), 4);
  store<f32>(y, withTail<W>(total(a22), x2, w2, body, bytes), 8);
  store<f32>(y, withTail<W>(total(a23), x2, w3, body, bytes), 12);
}

/** All tokens, in threes and then one by one, against 4 weight rows; y is the first token's first output. */
function blockOfFour<W>(x: usize, w: usize, y: usize, tokens: i32, bytes: usize, yBytes: usize): void {
  let t: i32 = 0;
  for (; t + 3 <= tokens; t += 3) threeByFour<W>(x + <usize>t * bytes, w, y + <usize>t * yBytes, bytes, yBytes);
  for (; t < tokens; t++) {
    for (let o: usize = 0; o < 4; o++) {
      store<f32>(y + <usize>t * yBytes + (o << 2), dot<W>(x + <usize>t * bytes, w + o * bytesOver<W>(bytes), bytes));
    }
  }
}

function product<W>(x: usize, w: usize, y: usize, tokens: i32, outs: i32, ins: i32): void {
  const bytes = <usize>ins << 2;
  const pitch = bytesOver<W>(bytes);
  const yBytes = <usize>outs << 2;
  const many = tokens >= 3;
  let o: i32 = 0;
  if (many) {
    for (; o + 4 <= outs; o += 4) {
      blockOfFour<W>(x, w + <usize>o * pitch, y + (<usize>o << 2), tokens, bytes, yBytes);
    }
  } else {
    for (; o + 8 <= outs; o += 8) {
      for (let t: usize = 0; t < <usize>tokens; t++) {
        oneByEight<W>(x + t * bytes, w + <usize>o * pitch, y + t * yBytes + (<usize>o << 2), bytes);
      }
    }
  }
  for (; o < outs; o++) {
    for (let t: usize = 0; t < <usize>tokens; t++) {
      store<f32>(y + t * yBytes + (<usize>o << 2), dot<W>(x + t * bytes, w + <usize>o * pitch, bytes));
    }
  }
}

/** y [tokens, outs] = x [tokens, ins] times the transpose of w [outs, ins], all f32 and contiguous. */
export function linearF32(x: usize, w: usize, y: usize, tokens: i32, outs: i32, ins: i32): void {
  product<f32>(x, w, y, tokens, outs, ins);
}

/** The same with w in bf16. */
export function linearBf16(x: usize, w: usize, y: usize, tokens: i32, outs: i32, ins: i32): void {
  product<i16>(x, w, y, tokens, outs, ins);
}

/** The same with w in f16. */
export function linearF16(x: usize, w: usize, y: usize, tokens: i32, outs: i32, ins: i32): void {
  product<u16>(x, w, y, tokens, outs, ins);
}

/** The same with w in f16, none of it NaN or infinite. */
export function linearFiniteF16(x: usize, w: usize, y: usize, tokens: i32, outs: i32, ins: i32): void {
  product<u32>(x, w, y, tokens, outs, ins);
}
