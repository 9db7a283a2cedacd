// Greedy choice: where the largest value lies.
//
// Grid: none. Memory traffic: values twice, the second time from the caches. Numerical contract: the lowest index wins
// among equals; a value that is not finite, wherever it stands, leaves no choice.

// @ts-ignore: decorator
@inline
function allFinite(values: v128): v128 {
  return f32x4.lt(f32x4.abs(values), f32x4.splat(Infinity));
}

/** Index of the largest of count f32; -1 when there is none, or when one is NaN or infinite. */
export function argmax(values: usize, count: i32): i32 {
  const bytes = <usize>count << 2;
  const body = bytes & ~15;
  let most: f32 = -Infinity;
  let mosts = f32x4.splat(most);
  let finite = i32x4.splat(-1);
  for (let k: usize = 0; k < body; k += 16) {
    const four = v128.load(values + k);
    finite = v128.and(finite, allFinite(four));
    mosts = f32x4.max(mosts, four);
  }
  if (!i32x4.all_true(finite)) return -1;
  most = max<f32>(
    max<f32>(f32x4.extract_lane(mosts, 0), f32x4.extract_lane(mosts, 1)),
    max<f32>(f32x4.extract_lane(mosts, 2), f32x4.extract_lane(mosts, 3)),
  );
  for (let k = body; k < bytes; k += 4) {
    const value = load<f32>(values + k);
    if (!(abs(value) < Infinity)) return -1;
    most = max<f32>(most, value);
  }
  for (let i: i32 = 0; i < count; i++) if (load<f32>(values + (<usize>i << 2)) == most) return i;
  return -1;
}
