// Floats as f32: small weights (norms, biases) on their way into memory, and rows of an embedding table.
//
// Grid: none, one call moves a block. Memory traffic: the block once in, once out.
// Numerical contract: exact.

import { bytesOver, load1, load4 } from "./floats.as";

/** count elements -> count f32. */
// @ts-ignore: decorator
@inline
export function widen<W>(from: usize, to: usize, count: usize): void {
  const bytes = count << 2;
  if (isFloat<W>()) {
    memory.copy(to, from, bytes);
    return;
  }
  const body = bytes & ~15;
  for (let k: usize = 0; k < body; k += 16) v128.store(to + k, load4<W>(from + bytesOver<W>(k)));
  for (let k = body; k < bytes; k += 4) store<f32>(to + k, load1<W>(from + bytesOver<W>(k)));
}

/** count f32 -> count f32. */
export function widenF32(from: usize, to: usize, count: i32): void {
  widen<f32>(from, to, <usize>count);
}

/** count bf16 -> count f32. */
export function widenBf16(from: usize, to: usize, count: i32): void {
  widen<i16>(from, to, <usize>count);
}

/** count f16 -> count f32. */
export function widenF16(from: usize, to: usize, count: i32): void {
  widen<u16>(from, to, <usize>count);
}
