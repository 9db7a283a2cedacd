// Rows of finite 16-bit floats times a factor.
//
// The module exports these loops, and they are unrolled beyond what compilers inline: inlined, they would share
// registers with other loops' constants, and make their own anew in every turn.

import { BF16, F16 } from "../../wasm/dtype.as";
import { scaled, unit } from "../../wasm/halves.as";

/** `dim` elements, a multiple of eight, times a factor from 0 to 1. */
// @ts-ignore: decorator
@inline
function scaleHalves<T>(source: usize, target: usize, dim: i32, factor: f32): void {
  const factors = f32x4.splat(factor * unit<T>());
  const end = source + dim * 2;
  while (source + 64 <= end) {
    v128.store(target, scaled<T>(v128.load(source), factors));
    v128.store(target, scaled<T>(v128.load(source, 16), factors), 16);
    v128.store(target, scaled<T>(v128.load(source, 32), factors), 32);
    v128.store(target, scaled<T>(v128.load(source, 48), factors), 48);
    source += 64;
    target += 64;
  }
  while (source < end) {
    v128.store(target, scaled<T>(v128.load(source), factors));
    source += 16;
    target += 16;
  }
}

export function scaleHalves_f16(source: usize, target: usize, dim: i32, factor: f32): void {
  scaleHalves<F16>(source, target, dim, factor);
}

export function scaleHalves_bf16(source: usize, target: usize, dim: i32, factor: f32): void {
  scaleHalves<BF16>(source, target, dim, factor);
}
