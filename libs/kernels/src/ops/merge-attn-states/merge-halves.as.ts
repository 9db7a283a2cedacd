// Weighted sums of rows of finite 16-bit floats, in their own dtype.
//
// The module exports these loops, and they are unrolled beyond what compilers inline: inlined, they would share
// registers with other loops' constants, and make their own anew in every turn.

import { BF16, F16 } from "../../wasm/dtype.as";
import { evens, joined, odds, unit } from "../../wasm/halves.as";

/** As mergeHalves for two triples. */
// @ts-ignore: decorator
@inline
function mergeTwoHalves<T>(rows: usize, target: usize, dim: i32): void {
  let a: usize = load<u32>(rows);
  let b: usize = load<u32>(rows, 12);
  const weightA = f32x4.splat(load<f32>(rows, 8) * unit<T>());
  const weightB = f32x4.splat(load<f32>(rows, 20) * unit<T>());
  for (const end = a + dim * 2; a < end; a += 16) {
    const x = v128.load(a);
    const y = v128.load(b);
    const even = f32x4.add(f32x4.mul(weightA, evens<T>(x)), f32x4.mul(weightB, evens<T>(y)));
    const odd = f32x4.add(f32x4.mul(weightA, odds<T>(x)), f32x4.mul(weightB, odds<T>(y)));
    v128.store(target, joined<T>(even, odd));
    b += 16;
    target += 16;
  }
}

/** target = sum over `count` triples (pointer, stride, weight) at `rows`, of `dim` columns, a multiple of eight. */
// @ts-ignore: decorator
@inline
function mergeHalves<T>(rows: usize, count: i32, target: usize, dim: i32): void {
  const bytes = dim * 2;
  const end = rows + count * 12;
  for (let entry = rows; entry < end; entry += 12) store<f32>(entry, load<f32>(entry, 8) * unit<T>(), 8);
  let at = 0;
  for (; at + 32 <= bytes; at += 32) {
    let even = f32x4.splat(0);
    let odd = f32x4.splat(0);
    let nextEven = f32x4.splat(0);
    let nextOdd = f32x4.splat(0);
    for (let entry = rows; entry < end; entry += 12) {
      const row: usize = load<u32>(entry) + at;
      const weight = v128.load32_splat(entry, 8);
      const patterns = v128.load(row);
      even = f32x4.add(even, f32x4.mul(weight, evens<T>(patterns)));
      odd = f32x4.add(odd, f32x4.mul(weight, odds<T>(patterns)));
      const next = v128.load(row, 16);
      nextEven = f32x4.add(nextEven, f32x4.mul(weight, evens<T>(next)));
      nextOdd = f32x4.add(nextOdd, f32x4.mul(weight, odds<T>(next)));
    }
    v128.store(target + at, joined<T>(even, odd));
    v128.store(target + at, joined<T>(nextEven, nextOdd), 16);
  }
  if (at < bytes) {
    let even = f32x4.splat(0);
    let odd = f32x4.splat(0);
    for (let entry = rows; entry < end; entry += 12) {
      const patterns = v128.load(<usize>load<u32>(entry) + at);
      const weight = v128.load32_splat(entry, 8);
      even = f32x4.add(even, f32x4.mul(weight, evens<T>(patterns)));
      odd = f32x4.add(odd, f32x4.mul(weight, odds<T>(patterns)));
    }
    v128.store(target + at, joined<T>(even, odd));
  }
}

export function mergeHalves_f16(rows: usize, count: i32, target: usize, dim: i32): void {
  mergeHalves<F16>(rows, count, target, dim);
}

export function mergeHalves_bf16(rows: usize, count: i32, target: usize, dim: i32): void {
  mergeHalves<BF16>(rows, count, target, dim);
}

export function mergeTwoHalves_f16(rows: usize, target: usize, dim: i32): void {
  mergeTwoHalves<F16>(rows, target, dim);
}

export function mergeTwoHalves_bf16(rows: usize, target: usize, dim: i32): void {
  mergeTwoHalves<BF16>(rows, target, dim);
}
