// Greedy choice: where the largest value lies.
//
// Grid: none. Memory traffic: values once. Numerical contract: the lowest index wins among equals; NaN never wins.

/** Index of the largest of count f32, -1 when there is none (count 0, or only NaN). */
export function argmax(values: usize, count: i32): i32 {
  let best: i32 = -1;
  let most: f32 = -Infinity;
  for (let i: i32 = 0; i < count; i++) {
    const value = load<f32>(values + (<usize>i << 2));
    if (value > most || (best < 0 && value == most)) {
      most = value;
      best = i;
    }
  }
  return best;
}
