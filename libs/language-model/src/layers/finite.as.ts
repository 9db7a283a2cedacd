// Whether weights in f16 are all finite: then a product may take them without looking at each.
//
// Grid: none. Memory traffic: the block once.

/** True unless one of count f16 is NaN or infinite. */
export function isFiniteF16(at: usize, count: i32): bool {
  const end = at + (<usize>count << 1);
  const body = at + (<usize>(count & ~7) << 1);
  const exponent = i16x8.splat(0x7c00);
  let special = i16x8.splat(0);
  for (; at < body; at += 16) special = v128.or(special, i16x8.eq(v128.and(v128.load(at), exponent), exponent));
  if (v128.any_true(special)) return false;
  for (; at < end; at += 2) {
    if ((load<u16>(at) & 0x7c00) == 0x7c00) return false;
  }
  return true;
}
