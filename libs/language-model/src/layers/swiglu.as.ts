// SwiGLU activation: out = silu(gate) * up, silu(g) = g / (1 + exp(-g)).
//
// Grid: none, one call does every element. Memory traffic: gate and up once, out once.
// Numerical contract: exp within 2 units in the last place of f32, written out here because the engines' own functions
// differ in their last bits; NaN stays NaN. out may be gate or up.

/**
 * exp of four f32: 2^n * p(r) with x = n ln 2 + r, |r| <= ln 2 / 2; p as in Cephes `expf`. Clamped to finite results.
 */
// @ts-ignore: decorator
@inline
function exp4(x: v128): v128 {
  x = f32x4.max(f32x4.min(x, f32x4.splat(88.0)), f32x4.splat(-87.0));
  const n = f32x4.nearest(f32x4.mul(x, f32x4.splat(1.44269504088896341)));
  let r = f32x4.sub(x, f32x4.mul(n, f32x4.splat(0.693359375)));
  r = f32x4.sub(r, f32x4.mul(n, f32x4.splat(-2.12194440e-4)));
  let p = f32x4.splat(1.9875691500e-4);
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.3981999507e-3));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(8.3334519073e-3));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(4.1665795894e-2));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.6666665459e-1));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(5.0000001201e-1));
  p = f32x4.add(f32x4.add(f32x4.mul(p, f32x4.mul(r, r)), r), f32x4.splat(1));
  const exponent = i32x4.shl(i32x4.add(i32x4.trunc_sat_f32x4_s(n), i32x4.splat(127)), 23);
  return f32x4.mul(p, exponent);
}

// @ts-ignore: decorator
@inline
function swiGlu4(gate: v128, up: v128): v128 {
  const one = f32x4.splat(1);
  return f32x4.mul(f32x4.div(gate, f32x4.add(one, exp4(f32x4.neg(gate)))), up);
}

/** gate, up, out: count f32 each. */
export function swiGlu(gate: usize, up: usize, out: usize, count: i32): void {
  const bytes = <usize>count << 2;
  const body = bytes & ~15;
  for (let k: usize = 0; k < body; k += 16) {
    v128.store(out + k, swiGlu4(v128.load(gate + k), v128.load(up + k)));
  }
  for (let k = body; k < bytes; k += 4) {
    const one = swiGlu4(f32x4.splat(load<f32>(gate + k)), f32x4.splat(load<f32>(up + k)));
    store<f32>(out + k, f32x4.extract_lane(one, 0));
  }
}
