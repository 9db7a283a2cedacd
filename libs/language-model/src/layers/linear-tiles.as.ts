// Linear layer of many tokens, over weights widened to f32 (the product and its contract: linear.as.ts).
//
// Grid: none. Ownership: a panel is five weight rows, one from each fifth of w (long streams, as in linear-rows.as.ts);
// two panels, 512 columns of them at a time, are widened into scratch, where the L1 cache keeps them while all tokens
// pass over them, two at a time: 10 accumulators, which with the vectors of x and w fill the 16 registers of x86
// without spilling any. Beyond 512 columns the sums of a panel wait in scratch from one block of columns to the next.
// Rows past the last, and the second token of an odd last pair, repeat the last one: the same bits are written again.
// Memory traffic: w once, x once per two panels (from the L2 cache, put into the order of reading once a call), y once.
// Numerical contract: linear-sums.as.ts. Of a block of columns the elements of even number lie before those of odd
// number, in x as in w, and their sums are made one after the other.

import { bytesOver, evens, isRebased, KEY_BYTES, odds, storeKeys } from "./floats.as";
import { evenLanes, muladd, oddLanes, totalOfEvensAndOdds, withTail } from "./linear-sums.as";

/** Rows of a panel. */
// @ts-ignore: decorator
@inline
const ROWS: usize = 5;
/** Panels widened at a time. */
// @ts-ignore: decorator
@inline
const PANELS: usize = 2;
/** Bytes of the f32 of a row that are widened at a time. */
// @ts-ignore: decorator
@inline
const BLOCK: usize = 2048;
/** Bytes of a panel's sums of one parity for two tokens. */
// @ts-ignore: decorator
@inline
const SUMS: usize = 2 * ROWS * 16;

/** Two tokens by blocks of columns: elements of even number, then of odd number, four of one, four of the other. */
function packTokens(x0: usize, x1: usize, to: usize, body: usize): void {
  for (let b: usize = 0; b < body; b += BLOCK) {
    const size = min(BLOCK, body - b);
    for (let k = b; k < b + size; k += 32) {
      let first = v128.load(x0 + k);
      let last = v128.load(x0 + k, 16);
      v128.store(to, evenLanes(first, last));
      v128.store(to + size, oddLanes(first, last));
      first = v128.load(x1 + k);
      last = v128.load(x1 + k, 16);
      v128.store(to, evenLanes(first, last), 16);
      v128.store(to + size, oddLanes(first, last), 16);
      to += 32;
    }
    to += size;
  }
}

/** Eight weights: those of even number to one place, those of odd number `half` bytes behind. */
// @ts-ignore: decorator
@inline
function widenEight<W>(w: usize, to: usize, half: usize, even: v128, odd: v128, places: v128, rebase: v128): void {
  const bytes = v128.load(w);
  let first: v128;
  let second: v128;
  if (isFloat<W>()) {
    const last = v128.load(w, 16);
    first = evenLanes(bytes, last);
    second = oddLanes(bytes, last);
  } else {
    first = evens<W>(bytes, even, places);
    second = odds<W>(bytes, odd, places);
  }
  v128.store(to, isRebased<W>() ? f32x4.mul(first, rebase) : first);
  v128.store(to + half, isRebased<W>() ? f32x4.mul(second, rebase) : second);
}

/** A block of columns of a panel; `size` is that of its rows in f32. */
function widenPanel<W>(
  w0: usize,
  w1: usize,
  w2: usize,
  w3: usize,
  w4: usize,
  to: usize,
  size: usize,
  keys: usize,
): void {
  const even = v128.load(keys);
  const odd = v128.load(keys, 16);
  const places = v128.load(keys, 32);
  const rebase = v128.load(keys, 48);
  const half = (size >> 1) * ROWS;
  for (let k: usize = 0; k < size; k += 32) {
    const j = bytesOver<W>(k);
    widenEight<W>(w0 + j, to, half, even, odd, places, rebase);
    widenEight<W>(w1 + j, to + 16, half, even, odd, places, rebase);
    widenEight<W>(w2 + j, to + 32, half, even, odd, places, rebase);
    widenEight<W>(w3 + j, to + 48, half, even, odd, places, rebase);
    widenEight<W>(w4 + j, to + 64, half, even, odd, places, rebase);
    to += ROWS << 4;
  }
}

/** Two tokens against a panel: the products of one parity, `steps` times four, added to the sums there, or to none. */
function tile(x: usize, w: usize, sums: usize, steps: usize, isFirst: bool): void {
  let a00 = f32x4.splat(0);
  let a01 = a00;
  let a02 = a00;
  let a03 = a00;
  let a04 = a00;
  let a10 = a00;
  let a11 = a00;
  let a12 = a00;
  let a13 = a00;
  let a14 = a00;
  if (!isFirst) {
    a00 = v128.load(sums);
    a01 = v128.load(sums, 16);
    a02 = v128.load(sums, 32);
    a03 = v128.load(sums, 48);
    a04 = v128.load(sums, 64);
    a10 = v128.load(sums, 80);
    a11 = v128.load(sums, 96);
    a12 = v128.load(sums, 112);
    a13 = v128.load(sums, 128);
    a14 = v128.load(sums, 144);
  }
  const end = x + (steps << 5);
  while (x < end) {
    const v0 = v128.load(x);
    const v1 = v128.load(x, 16);
    let r = v128.load(w);
    a00 = muladd(a00, v0, r);
    a10 = muladd(a10, v1, r);
    r = v128.load(w, 16);
    a01 = muladd(a01, v0, r);
    a11 = muladd(a11, v1, r);
    r = v128.load(w, 32);
    a02 = muladd(a02, v0, r);
    a12 = muladd(a12, v1, r);
    r = v128.load(w, 48);
    a03 = muladd(a03, v0, r);
    a13 = muladd(a13, v1, r);
    r = v128.load(w, 64);
    a04 = muladd(a04, v0, r);
    a14 = muladd(a14, v1, r);
    x += 32;
    w += ROWS << 4;
  }
  v128.store(sums, a00);
  v128.store(sums, a01, 16);
  v128.store(sums, a02, 32);
  v128.store(sums, a03, 48);
  v128.store(sums, a04, 64);
  v128.store(sums, a10, 80);
  v128.store(sums, a11, 96);
  v128.store(sums, a12, 112);
  v128.store(sums, a13, 128);
  v128.store(sums, a14, 144);
}

/** One token's outputs of a panel from its sums of both parities. */
function finish<W>(sums: usize, x: usize, w: usize, y: usize, row: usize, fifth: usize, last: usize, ins: usize): void {
  const bytes = ins << 2;
  const body = bytes & ~31;
  for (let r: usize = 0; r < ROWS; r++) {
    const total = totalOfEvensAndOdds(v128.load(sums), v128.load(sums + SUMS));
    store<f32>(y + (row << 2), withTail<W>(total, x, w + row * bytesOver<W>(bytes), body, bytes));
    sums += 16;
    row = min(row + fifth, last);
  }
}

/** y [tokens, outs] = x [tokens, ins] times the transpose of w [outs, ins], for many tokens. */
export function productByTiles<W>(
  x: usize,
  w: usize,
  y: usize,
  tokens: usize,
  outs: usize,
  ins: usize,
  scratch: usize,
): void {
  const bytes = ins << 2;
  const body = bytes & ~31;
  const pitch = bytesOver<W>(bytes);
  const yPitch = outs << 2;
  const fifth = (outs + ROWS - 1) / ROWS;
  const last = outs - 1;
  const packed = scratch + KEY_BYTES;
  const panels = packed + ((tokens + 1) & ~1) * body;
  const sums = panels + PANELS * ROWS * min(BLOCK, body);
  storeKeys<W>(scratch);
  for (let t: usize = 0; t < tokens; t += 2) {
    packTokens(x + t * bytes, x + min(t + 1, tokens - 1) * bytes, packed + t * body, body);
  }
  for (let o: usize = 0; o < fifth; o += PANELS) {
    const count = min(PANELS, fifth - o);
    let b: usize = 0;
    do {
      const size = min(BLOCK, body - b);
      const steps = size >> 5;
      const half = (size >> 1) * ROWS;
      const from = w + bytesOver<W>(b);
      for (let p: usize = 0; p < count; p++) {
        const r0 = o + p;
        const r1 = min(r0 + fifth, last);
        const r2 = min(r1 + fifth, last);
        const r3 = min(r2 + fifth, last);
        const r4 = min(r3 + fifth, last);
        widenPanel<W>(
          from + r0 * pitch,
          from + r1 * pitch,
          from + r2 * pitch,
          from + r3 * pitch,
          from + r4 * pitch,
          panels + 2 * p * half,
          size,
          scratch,
        );
      }
      let to = sums;
      for (let t: usize = 0; t < tokens; t += 2) {
        const at = packed + t * body + 2 * b;
        for (let p: usize = 0; p < count; p++, to += 2 * SUMS) {
          const panel = panels + 2 * p * half;
          tile(at, panel, to, steps, b == 0);
          tile(at + size, panel + half, to + SUMS, steps, b == 0);
          if (b + size < body) continue;
          const own = y + t * yPitch;
          finish<W>(to, x + t * bytes, w, own, o + p, fifth, last, ins);
          if (t + 1 == tokens) continue;
          finish<W>(to + ROWS * 16, x + (t + 1) * bytes, w, own + yPitch, o + p, fifth, last, ins);
        }
      }
      b += size;
    } while (b < body);
  }
}
