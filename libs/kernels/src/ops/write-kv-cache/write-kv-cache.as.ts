// writeKvCache on the shared heap, for keys or for values.
//
// Grid: one thread walks tokens, then KV heads. Traffic: reads every stored row once, writes it once.
// Numerics: rounds to the cache's dtype, to nearest, ties to even; equal dtypes move bit for bit. 8-bit caches
// saturate, and elements are multiplied first: by their head's factor, or by the inverse of their row's scale, which is
// found and stored here.
//
// `view` is a table of u32, in the order of the constants below (strides in bytes). `slots` holds one i32 per token.

import { BF16, F16, F8, I8, load1, load4, store1, store4, store8 } from "../../wasm/dtype.as";
import { rowScale } from "./row-scale.as";

const SOURCE: usize = 0; // pointer, token, head and column strides
const TARGET: usize = 16; // pointer, block, offset and head strides
const TOKENS: usize = 32;
const HEADS: usize = 36;
const COLUMNS: usize = 40;
const BLOCK_SIZE: usize = 44;
const FACTORS: usize = 48; // pointer to the heads' factors
const SCALES: usize = 52; // pointer to the scales of rows (0 for none), block, offset and head strides

// @ts-ignore: decorator
@inline
function write<S, T>(view: usize, slots: usize): void {
  const tokens = load<i32>(view, TOKENS);
  const heads = load<i32>(view, HEADS);
  const columns = load<i32>(view, COLUMNS);
  const blockSize = load<i32>(view, BLOCK_SIZE);
  const columnStride = load<u32>(view, SOURCE + 12);
  const sourceStride = load<u32>(view, SOURCE + 8);
  const targetStride = load<u32>(view, TARGET + 12);
  const factors: usize = load<u32>(view, FACTORS);
  const scales: usize = load<u32>(view, SCALES);
  const quantises = sizeof<T>() == 1 && sizeof<S>() != 1;
  // The heads of a token as one row, where nothing lies between them.
  const joined =
    columnStride == sizeof<S>() &&
    sourceStride == columns * sizeof<S>() &&
    targetStride == columns * sizeof<T>() &&
    (!quantises || (scales == 0 && allEqual(factors, heads)));
  for (let token = 0; token < tokens; token++) {
    const slot = load<i32>(slots + token * 4);
    if (slot < 0) continue;
    let source: usize = load<u32>(view, SOURCE) + token * load<u32>(view, SOURCE + 4);
    const block: u32 = slot / blockSize;
    const offset: u32 = slot % blockSize;
    let target: usize = load<u32>(view, TARGET);
    target += block * load<u32>(view, TARGET + 4) + offset * load<u32>(view, TARGET + 8);
    if (quantises && scales != 0) {
      let scaleAt = scales + block * load<u32>(view, SCALES + 4) + offset * load<u32>(view, SCALES + 8);
      for (let head = 0; head < heads; head++) {
        const scale = rowScale<S, T>(source, columnStride, columns);
        store<f32>(scaleAt, scale);
        quantiseRow<S, T>(source, columnStride, target, columns, 1 / scale);
        source += sourceStride;
        target += targetStride;
        scaleAt += load<u32>(view, SCALES + 12);
      }
      continue;
    }
    if (joined && heads > 0) {
      if (quantises) quantiseRow<S, T>(source, columnStride, target, heads * columns, load<f32>(factors));
      else convertRow<S, T>(source, columnStride, target, heads * columns);
      continue;
    }
    for (let head = 0; head < heads; head++) {
      if (quantises) quantiseRow<S, T>(source, columnStride, target, columns, load<f32>(factors + head * 4));
      else convertRow<S, T>(source, columnStride, target, columns);
      source += sourceStride;
      target += targetStride;
    }
  }
}

/** Whether `count` f32 are the same. */
function allEqual(numbers: usize, count: i32): bool {
  for (let index = 1; index < count; index++) {
    if (load<f32>(numbers + index * 4) != load<f32>(numbers)) return false;
  }
  return true;
}

function convertRow<S, T>(source: usize, stride: u32, target: usize, columns: i32): void {
  let column = 0;
  if (stride == sizeof<S>()) {
    if (sizeof<S>() == sizeof<T>() && isSigned<S>() == isSigned<T>()) {
      memory.copy(target, source, columns * sizeof<T>());
      return;
    }
    for (; column + 8 <= columns; column += 8) {
      const at = source + column * sizeof<S>();
      store8<T>(target + column * sizeof<T>(), load4<S>(at), load4<S>(at + 4 * sizeof<S>()));
    }
    for (; column + 4 <= columns; column += 4) {
      store4<T>(target + column * sizeof<T>(), load4<S>(source + column * sizeof<S>()));
    }
  }
  for (; column < columns; column++) store1<T>(target + column * sizeof<T>(), load1<S>(source + column * stride));
}

/** A row times `factor`, in an 8-bit dtype. */
function quantiseRow<S, T>(source: usize, stride: u32, target: usize, columns: i32, factor: f32): void {
  const factors = f32x4.splat(factor);
  let column = 0;
  if (stride == sizeof<S>()) {
    for (; column + 8 <= columns; column += 8) {
      const at = source + column * sizeof<S>();
      store8<T>(target + column, f32x4.mul(load4<S>(at), factors), f32x4.mul(load4<S>(at + 4 * sizeof<S>()), factors));
    }
    for (; column + 4 <= columns; column += 4) {
      store4<T>(target + column, f32x4.mul(load4<S>(source + column * sizeof<S>()), factors));
    }
  }
  for (; column < columns; column++) store1<T>(target + column, load1<S>(source + column * stride) * factor);
}

export function writeKvCache_f32_f32(view: usize, slots: usize): void {
  write<f32, f32>(view, slots);
}

export function writeKvCache_f32_f16(view: usize, slots: usize): void {
  write<f32, F16>(view, slots);
}

export function writeKvCache_f32_bf16(view: usize, slots: usize): void {
  write<f32, BF16>(view, slots);
}

export function writeKvCache_f16_f32(view: usize, slots: usize): void {
  write<F16, f32>(view, slots);
}

export function writeKvCache_f16_f16(view: usize, slots: usize): void {
  write<F16, F16>(view, slots);
}

export function writeKvCache_f16_bf16(view: usize, slots: usize): void {
  write<F16, BF16>(view, slots);
}

export function writeKvCache_bf16_f32(view: usize, slots: usize): void {
  write<BF16, f32>(view, slots);
}

export function writeKvCache_bf16_f16(view: usize, slots: usize): void {
  write<BF16, F16>(view, slots);
}

export function writeKvCache_bf16_bf16(view: usize, slots: usize): void {
  write<BF16, BF16>(view, slots);
}

export function writeKvCache_f32_f8e4m3(view: usize, slots: usize): void {
  write<f32, F8>(view, slots);
}

export function writeKvCache_f32_i8(view: usize, slots: usize): void {
  write<f32, I8>(view, slots);
}

export function writeKvCache_f16_f8e4m3(view: usize, slots: usize): void {
  write<F16, F8>(view, slots);
}

export function writeKvCache_f16_i8(view: usize, slots: usize): void {
  write<F16, I8>(view, slots);
}

export function writeKvCache_bf16_f8e4m3(view: usize, slots: usize): void {
  write<BF16, F8>(view, slots);
}

export function writeKvCache_bf16_i8(view: usize, slots: usize): void {
  write<BF16, I8>(view, slots);
}

export function writeKvCache_f8e4m3_f8e4m3(view: usize, slots: usize): void {
  write<F8, F8>(view, slots);
}

export function writeKvCache_i8_i8(view: usize, slots: usize): void {
  write<I8, I8>(view, slots);
}
