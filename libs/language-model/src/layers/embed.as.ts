// Embedding lookup in a table whose rows are split over ranks by vocabulary: a rank writes the rows it owns and zeros
// for the rest, so that the sum over ranks is the whole embedding.
//
// Grid: none. Memory traffic: one table row, in the table's own dtype, and one output row per token.
// Numerical contract: f32, bf16 and f16 exactly; int8 times the scale of its group, rounded to f32.

import { bytesOver } from "./floats.as";
import { widen } from "./widen.as";

// @ts-ignore: decorator
@inline
function lookUp<W>(ids: usize, table: usize, out: usize, tokens: i32, dim: i32, firstId: i32, lastId: i32): void {
  const bytes = <usize>dim << 2;
  for (let t: i32 = 0; t < tokens; t++) {
    const id = load<i32>(ids + (<usize>t << 2));
    const to = out + <usize>t * bytes;
    if (id >= firstId && id < lastId) widen<W>(table + <usize>(id - firstId) * bytesOver<W>(bytes), to, <usize>dim);
    else memory.fill(to, 0, bytes);
  }
}

/**
 * ids [tokens] i32; table [lastId - firstId, dim] f32: the rows of ids firstId up to (not including) lastId; out
 * [tokens, dim] f32.
 */
export function embedF32(ids: usize, table: usize, out: usize, tokens: i32, dim: i32, firstId: i32, lastId: i32): void {
  lookUp<f32>(ids, table, out, tokens, dim, firstId, lastId);
}

/** The same with the table in bf16. */
export function embedBf16(
  ids: usize,
  table: usize,
  out: usize,
  tokens: i32,
  dim: i32,
  firstId: i32,
  lastId: i32,
): void {
  lookUp<i16>(ids, table, out, tokens, dim, firstId, lastId);
}

/** The same with the table in f16. */
export function embedF16(ids: usize, table: usize, out: usize, tokens: i32, dim: i32, firstId: i32, lastId: i32): void {
  lookUp<u16>(ids, table, out, tokens, dim, firstId, lastId);
}

/** The same with the table in int8; scales [lastId - firstId, dim / 32 rounded up] f32. */
export function embedInt8(
  ids: usize,
  table: usize,
  scales: usize,
  out: usize,
  tokens: i32,
  dim: i32,
  firstId: i32,
  lastId: i32,
): void {
  const bytes = <usize>dim << 2;
  const groups = (<usize>dim + 31) >> 5;
  for (let t: i32 = 0; t < tokens; t++) {
    const id = load<i32>(ids + (<usize>t << 2));
    const to = out + <usize>t * bytes;
    if (id >= firstId && id < lastId) {
      const row = <usize>(id - firstId);
      const from = table + row * <usize>dim;
      const own = scales + row * (groups << 2);
      for (let i: usize = 0; i < <usize>dim; i++) {
        store<f32>(to + (i << 2), <f32>load<i8>(from + i) * load<f32>(own + ((i >> 5) << 2)));
      }
    } else memory.fill(to, 0, bytes);
  }
}
