// Rows of queries, keys and values as f32, padded with zeros to a multiple of four columns.

import { BF16, F16, f16ToF32Finite, F8, f8ToF32Finite, load1, load4 } from "../../wasm/dtype.as";

// @ts-ignore: decorator
@inline
function twice(bits: v128): v128 {
  return i16x8.add(bits, bits);
}

/** One row of unit stride. */
export function convertRow<T>(source: usize, target: usize, dim: i32): void {
  const end = source + dim * sizeof<T>();
  const unrolled = source + (dim & ~15) * sizeof<T>();
  if (sizeof<T>() == 1) {
    let special = i32x4.splat(0);
    const start = source;
    while (source < unrolled) {
      const bytes = v128.load(source);
      const low = i16x8.extend_low_i8x16_s(bytes);
      const high = i16x8.extend_high_i8x16_s(bytes);
      v128.store(target, widened<T>(i32x4.extend_low_i16x8_s(low)));
      v128.store(target, widened<T>(i32x4.extend_high_i16x8_s(low)), 16);
      v128.store(target, widened<T>(i32x4.extend_low_i16x8_s(high)), 32);
      v128.store(target, widened<T>(i32x4.extend_high_i16x8_s(high)), 48);
      if (!isSigned<T>()) {
        special = v128.or(special, i8x16.eq(v128.or(bytes, i8x16.splat(-128)), i8x16.splat(-1)));
      }
      source += 16;
      target += 64;
    }
    if (!isSigned<T>() && v128.any_true(special)) {
      target -= (source - start) * 4;
      source = start;
    }
  } else if (isFloat<T>() || isSigned<T>()) {
    while (source < unrolled) {
      v128.store(target, load4<T>(source));
      v128.store(target, load4<T>(source + 4 * sizeof<T>()), 16);
      v128.store(target, load4<T>(source + 8 * sizeof<T>()), 32);
      v128.store(target, load4<T>(source + 12 * sizeof<T>()), 48);
      source += 16 * sizeof<T>();
      target += 64;
    }
  } else {
    // The largest magnitude, in the upper 15 bits, tells afterwards whether anything was infinite or NaN.
    let largest = i32x4.splat(0);
    const start = source;
    while (source < unrolled) {
      v128.store(target, f16ToF32Finite(v128.load16x4_s(source)));
      v128.store(target, f16ToF32Finite(v128.load16x4_s(source, 8)), 16);
      v128.store(target, f16ToF32Finite(v128.load16x4_s(source, 16)), 32);
      v128.store(target, f16ToF32Finite(v128.load16x4_s(source, 24)), 48);
      largest = i16x8.max_u(largest, twice(v128.load(source)));
      largest = i16x8.max_u(largest, twice(v128.load(source, 16)));
      source += 32;
      target += 64;
    }
    if (v128.any_true(i16x8.ge_u(largest, i16x8.splat(<i16>0xf800)))) {
      target -= (source - start) * 2;
      source = start;
    }
  }
  while (source + 4 * sizeof<T>() <= end) {
    v128.store(target, load4<T>(source));
    source += 4 * sizeof<T>();
    target += 16;
  }
  if (source < end) {
    v128.store(target, f32x4.splat(0));
    while (source < end) {
      store<f32>(target, load1<T>(source));
      source += sizeof<T>();
      target += 4;
    }
  }
}

/** Four 8-bit elements, sign-extended, none of them NaN, as f32. */
// @ts-ignore: decorator
@inline
function widened<T>(bytes: v128): v128 {
  return isSigned<T>() ? f32x4.convert_i32x4_s(bytes) : f8ToF32Finite(bytes);
}

/** A query row times `scale`; dtype 0 f32, 1 f16, 2 bf16, 3 f8e4m3. */
export function loadQueryRow(source: usize, stride: u32, dtype: i32, target: usize, dim: i32, scale: f32): void {
  if (dtype == 0) scaledRow<f32>(source, stride, target, dim, scale);
  else if (dtype == 1) scaledRow<F16>(source, stride, target, dim, scale);
  else if (dtype == 3) scaledRow<F8>(source, stride, target, dim, scale);
  else scaledRow<BF16>(source, stride, target, dim, scale);
}

function scaledRow<T>(source: usize, stride: u32, target: usize, dim: i32, scale: f32): void {
  let column = 0;
  if (stride == sizeof<T>()) {
    for (; column + 4 <= dim; column += 4) {
      v128.store(target + column * 4, f32x4.mul(load4<T>(source), f32x4.splat(scale)));
      source += 4 * sizeof<T>();
    }
  }
  for (; column < dim; column++) {
    store<f32>(target + column * 4, load1<T>(source) * scale);
    source += stride;
  }
  for (; (column & 3) != 0; column++) store<f32>(target + column * 4, 0);
}
