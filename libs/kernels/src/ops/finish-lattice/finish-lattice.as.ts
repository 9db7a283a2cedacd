// finishLattice on the shared heap.
//
// Grid: one thread, row by row, column by column.
// Traffic: every sum is read once, every result written once.
// Numerics: f64, one division a column, one rounding to the dtype; the LSE in f32.

import { BF16, F16, store1 } from "../../wasm/dtype.as";
import { log4 } from "../../wasm/math.as";
import { joinWords, latticeStep, WEIGHT_STEP } from "../lattice-sums/lattice-words.as";

const BOUNDS: usize = 0; // pointer, strides of the three bounds, of tokens and of heads
const LATTICE: usize = 16; // sums: pointer, token and head strides
const OUT: usize = 28; // pointer, token, head and column strides
const LSE: usize = 44; // pointer, token and head strides
const TOKENS: usize = 56;
const HEADS: usize = 60;
const VALUE_DIM: usize = 64;

const LN_2: f32 = 0.69314718055994531;

// @ts-ignore: decorator
@inline
function finish<T>(p: usize): void {
  const tokens = load<i32>(p, TOKENS);
  const heads = load<i32>(p, HEADS);
  for (let token = 0; token < tokens; token++) {
    for (let head = 0; head < heads; head++) finishRow<T>(p, token, head);
  }
}

function finishRow<T>(p: usize, token: i32, head: i32): void {
  const valueDim = load<i32>(p, VALUE_DIM);
  const bounds: usize = load<u32>(p, BOUNDS) + token * load<u32>(p, BOUNDS + 8) + head * load<u32>(p, BOUNDS + 12);
  const sums: usize = load<u32>(p, LATTICE) + token * load<u32>(p, LATTICE + 4) + head * load<u32>(p, LATTICE + 8);
  const out: usize = load<u32>(p, OUT) + token * load<u32>(p, OUT + 4) + head * load<u32>(p, OUT + 8);
  const lse: usize = load<u32>(p, LSE) + token * load<u32>(p, LSE + 4) + head * load<u32>(p, LSE + 8);
  const columnStride = load<u32>(p, OUT + 12);
  const largest = load<f32>(bounds);
  const total = largest == Infinity ? NaN : joinWords(sums + valueDim * 8) * WEIGHT_STEP;
  if (total == 0) {
    for (let column = 0; column < valueDim; column++) store1<T>(out + column * columnStride, 0);
    store<f32>(lse, -Infinity);
    return;
  }
  const weighted = load<f32>(bounds + load<u32>(p, BOUNDS + 4));
  const exponent = load<f32>(bounds + 2 * load<u32>(p, BOUNDS + 4));
  const step = abs(largest) < Infinity ? latticeStep(largest, weighted, exponent) : 1;
  for (let column = 0; column < valueDim; column++) {
    const quotient = (joinWords(sums + column * 8) * step) / total;
    store1<T>(out + column * columnStride, isFloat<T>() ? <f32>quotient : towardsOdd(quotient));
  }
  store<f32>(lse, largest * LN_2 + f32x4.extract_lane(log4(f32x4.splat(<f32>total)), 0));
}

/** An f32 from which a 16-bit float is rounded as from the f64: of two neighbours the one whose last bit is set. */
// @ts-ignore: decorator
@inline
function towardsOdd(value: f64): f32 {
  const near = <f32>value;
  if (<f64>near == value || value != value) return near;
  let bits = reinterpret<u32>(near);
  if (abs(<f64>near) > abs(value)) bits--;
  return reinterpret<f32>(bits | 1);
}

export function finishLattice_f32(p: usize): void {
  finish<f32>(p);
}

export function finishLattice_f16(p: usize): void {
  finish<F16>(p);
}

export function finishLattice_bf16(p: usize): void {
  finish<BF16>(p);
}
