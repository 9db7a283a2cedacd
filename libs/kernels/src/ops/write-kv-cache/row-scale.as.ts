// The scale of a row of a quantised cache, as in row-scales.ts.

import { load1, load4 } from "../../wasm/dtype.as";

const SMALLEST: f32 = 7.888609052210118e-31; // 2^-100

/** Magnitudes; 0 for NaN and infinities. */
// @ts-ignore: decorator
@inline
function finiteSizes(values: v128): v128 {
  const sizes = f32x4.abs(values);
  return v128.and(sizes, f32x4.lt(sizes, f32x4.splat(Infinity)));
}

/**
 * The largest finite magnitude of a row of `columns` elements S, `stride` bytes apart, divided by the largest number of
 * T (u8 for e4m3, i8) and rounded toward 0; at least 2^-100.
 */
export function rowScale<S, T>(source: usize, stride: u32, columns: i32): f32 {
  let most = f32x4.splat(0);
  let column = 0;
  if (stride == sizeof<S>()) {
    for (; column + 4 <= columns; column += 4) {
      most = f32x4.pmax(most, finiteSizes(load4<S>(source + column * sizeof<S>())));
    }
  }
  for (; column < columns; column++) {
    most = f32x4.pmax(most, finiteSizes(f32x4.splat(load1<S>(source + column * stride))));
  }
  most = f32x4.pmax(most, v128.shuffle<f32>(most, most, 2, 3, 0, 1));
  most = f32x4.pmax(most, v128.shuffle<f32>(most, most, 1, 0, 3, 2));
  const size = f32x4.extract_lane(most, 0);
  const largest: f32 = isSigned<T>() ? 127 : 448;
  let scale = size / largest;
  // Exact in f64.
  if (<f64>scale * <f64>largest > <f64>size) scale = reinterpret<f32>(reinterpret<u32>(scale) - 1);
  return max(SMALLEST, scale);
}
