// Cosines and sines of the rotary position embedding: cos(a) * amplitude and sin(a) * amplitude with the angle
// a = f32(position * frequency), one row of `half` for each token.
//
// Grid: none, one call fills the rows of every token. Memory traffic: frequencies once a token (from the L1 cache),
// both results once.
// Numerical contract: the engines' cos and sin differ in their last bits, so both are built here from IEEE additions,
// multiplications and divisions of f64, the same bits everywhere: to within 1e-15 for angles below 2^20, then times the
// amplitude (f64) and rounded to f32. The angle is rounded to f32 first, as the models' own code does.

// pi / 2 in three parts of at most 33 bits, so that a part times a quarter-turn count below 2^20 is exact (fdlibm).
const HALF_PI_1: f64 = 1.5707963267341256;
const HALF_PI_2: f64 = 6.077100506303966e-11;
const HALF_PI_3: f64 = 2.0222662487959506e-21;
const QUARTERS: f64 = 0.6366197723675814;

/**
 * Of s = x^2, in lane 0 the series of cos(x), 1 - s/(1*2) + s^2/(1*2*3*4) - ..., and in lane 1 that of sin(x)/x,
 * 1 - s/(2*3) + s^2/(2*3*4*5) - ...
 */
// @ts-ignore: decorator
@inline
function series(s: f64): v128 {
  const squares = f64x2.splat(s);
  const one = f64x2.splat(1);
  let sum = one;
  for (let factor: f64 = 17; factor >= 1; factor -= 2) {
    const below = f64x2.replace_lane(f64x2.splat(factor * (factor + 1)), 1, (factor + 1) * (factor + 2));
    sum = f64x2.sub(one, f64x2.div(f64x2.mul(squares, sum), below));
  }
  return sum;
}

/**
 * positions [tokens] i32, frequencies [half] f32, amplitude: one f64; cosines, sines [tokens, half] f32.
 */
export function rotations(
  positions: usize,
  frequencies: usize,
  amplitude: usize,
  cosines: usize,
  sines: usize,
  tokens: i32,
  half: i32,
): void {
  const factor = load<f64>(amplitude);
  for (let token: usize = 0; token < <usize>tokens; token++) {
    const position = <f64>load<i32>(positions + (token << 2));
    for (let index: usize = 0; index < <usize>half; index++) {
      const angle = <f64>(<f32>(position * <f64>load<f32>(frequencies + (index << 2))));
      const quarter = floor<f64>(angle * QUARTERS + 0.5);
      const rest = angle - quarter * HALF_PI_1 - quarter * HALF_PI_2 - quarter * HALF_PI_3;
      const both = series(rest * rest);
      const cosine = f64x2.extract_lane(both, 0);
      const sine = rest * f64x2.extract_lane(both, 1);
      const turn = quarter - 4 * floor<f64>(quarter / 4);
      // A quarter turn makes a sine a cosine, and a cosine a negative sine.
      const isOdd = turn == 1 || turn == 3;
      let x = isOdd ? sine : cosine;
      let y = isOdd ? cosine : sine;
      if (turn == 1 || turn == 2) x = -x;
      if (turn >= 2) y = -y;
      store<f32>(cosines, <f32>(x * factor));
      store<f32>(sines, <f32>(y * factor));
      cosines += 4;
      sines += 4;
    }
  }
}
