// Linear layer (matrix product with a row-major weight).
//
//   x [tokens, ins] f32, w [outs, ins] f32, bf16 or f16, y [tokens, outs] f32:
//   y[t, o] = sum over i of x[t, i] * w[o, i]
//
// Grid: none, one call does the whole product on the calling thread: a few tokens one by one (linear-rows.as.ts), more
// of them over widened weights (linear-tiles.as.ts).
// Memory traffic: w once, in its own dtype, x from the caches, y once.
// Numerical contract: weights are widened exactly, so that the bits are those of a product with the weights in f32.
// Every element is summed in the same order whatever the rows and tokens it is computed with (linear-sums.as.ts), so a
// token's result does not depend on how many tokens are computed with it.
//
// W is the weights' type, as in floats.as.ts. `scratch` is room for constants, for the inputs in another order, for
// widened weights and for sums; linear-scratch.ts says how much.

import { productByRows } from "./linear-rows.as";
import { productByTiles } from "./linear-tiles.as";

/** Up to so many tokens are cheaper one by one, each widening the weights anew, than over weights widened first. */
// @ts-ignore: decorator
@inline
function few<W>(): i32 {
  if (isFloat<W>()) return 12;
  return isSigned<W>() ? 7 : 4;
}

// @ts-ignore: decorator
@inline
function product<W>(x: usize, w: usize, y: usize, tokens: i32, outs: i32, ins: i32, scratch: usize): void {
  if (tokens <= few<W>()) productByRows<W>(x, w, y, <usize>tokens, <usize>outs, <usize>ins, scratch);
  else productByTiles<W>(x, w, y, <usize>tokens, <usize>outs, <usize>ins, scratch);
}

/** y [tokens, outs] = x [tokens, ins] times the transpose of w [outs, ins], all f32 and contiguous. */
export function linearF32(x: usize, w: usize, y: usize, tokens: i32, outs: i32, ins: i32, scratch: usize): void {
  product<f32>(x, w, y, tokens, outs, ins, scratch);
}

/** The same with w in bf16. */
export function linearBf16(x: usize, w: usize, y: usize, tokens: i32, outs: i32, ins: i32, scratch: usize): void {
  product<i16>(x, w, y, tokens, outs, ins, scratch);
}

/** The same with w in f16. */
export function linearF16(x: usize, w: usize, y: usize, tokens: i32, outs: i32, ins: i32, scratch: usize): void {
  product<u16>(x, w, y, tokens, outs, ins, scratch);
}

/** The same with w in f16, none of it NaN or infinite. */
export function linearFiniteF16(x: usize, w: usize, y: usize, tokens: i32, outs: i32, ins: i32, scratch: usize): void {
  product<u32>(x, w, y, tokens, outs, ins, scratch);
}
