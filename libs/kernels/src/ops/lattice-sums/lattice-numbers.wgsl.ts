export const LATTICE_NUMBERS_WGSL = /* wgsl */ `
// The lattice of latticeSums, see lattice.ts: everything here is exact.

const INFINITY_BITS = 0x7f800000u;
// The upper word of a column that holds a value which is not finite.
const NOT_FINITE = 0x4000000u;
// Exponents below it are taken for it. The contract goes on to -300; but f32 has no weights times values beyond 2^-149,
// and 26 bits above that are what is summed.
const LOWEST_EXPONENT = -100.0;
const LARGE_SCORE = 65536.0;

// Whether an upper word, or the sum of some, says that the column holds a value which is not finite.
fn is_marked(high: u32) -> bool {
  return abs(bitcast<i32>(high)) > 0x2000000;
}

// The power of two 2^exponent, for an exponent of a normal f32.
fn power_of_two(exponent: i32) -> f32 {
  return bitcast<f32>(u32(exponent + 127) << 23u);
}

// The smallest integer e, from -126 on, with |size| < 2^e; the lowest f32 for 0.
fn value_exponent(size: f32) -> f32 {
  let bits = bitcast<u32>(size) & 0x7fffffffu;
  let exponent = clamp(i32(bits >> 23u) - 126, -126, 128);
  return select(f32(exponent), -0x1.fffffep+127f, bits == 0u);
}

// ceil(whole - taken), exactly: a difference that rounds to an integer may lie above it. What lies above it by less than
// float64 holds beside it does not count, as it does not for those who subtract in float64.
fn difference_above(whole: f32, taken: f32) -> f32 {
  let difference = whole - taken;
  let large = select(-taken, whole, abs(whole) >= abs(taken));
  let small = select(whole, -taken, abs(whole) >= abs(taken));
  let left_out = small - (difference - large);
  let size = bitcast<f32>(bitcast<u32>(abs(difference)) & 0x7f800000u);
  let rounded_down = difference == ceil(difference) && left_out > size * 0x1p-53;
  return ceil(difference) + select(0.0, 1.0, rounded_down);
}

// E of a row, of the bits of its bounds.
fn lattice_exponent(score: u32, weighted: u32, exponent: u32) -> i32 {
  if (!is_finite_bits(score) || !is_finite_bits(weighted) || !is_finite_bits(exponent)) { return 0; }
  let largest = bitcast<f32>(score);
  let difference = difference_above(bitcast<f32>(weighted), largest);
  let closest = select(bitcast<f32>(exponent), min(bitcast<f32>(exponent), difference), abs(largest) < LARGE_SCORE);
  return i32(clamp(closest, LOWEST_EXPONENT, 128.0));
}

// 1 over the step of the lattice.
fn lattice_factor(exponent: i32) -> f32 {
  return power_of_two(26 - exponent);
}
`;
