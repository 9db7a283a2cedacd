// Greedy choice: where the largest value lies.
//
// Grid: none. Memory traffic: values once. Numerical contract: the lowest index wins among equals; a value that is
// not finite, wherever it stands, leaves no choice.

/** Index of the largest of count f32; -1 when there is none, or when one is NaN or infinite. */
export function argmax(values: usize, count: i32): i32 {
  let best: i32 = -1;
  let most: f32 = -Infinity;
  for (let i: i32 = 0; i < count; i++) {
    const value = load<f32>(values + (<usize>i << 2));
    if (!(abs(value) < Infinity)) return -1;
    if (value > most) {
      most = value;
      best = i;
    }
  }
  return best;
}
