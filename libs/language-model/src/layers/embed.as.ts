// Embedding lookup in a table whose rows are split over ranks by vocabulary: a rank writes the rows it owns and zeros
// for the rest, so that the sum over ranks is the whole embedding.
//
// Grid: none. Memory traffic: one table row and one output row per token.

/**
 * ids [tokens] i32; table [lastId - firstId, dim] f32: the rows of ids firstId up to (not including) lastId; out
 * [tokens, dim] f32.
 */
export function embed(ids: usize, table: usize, out: usize, tokens: i32, dim: i32, firstId: i32, lastId: i32): void {
  const bytes = <usize>dim << 2;
  for (let t: i32 = 0; t < tokens; t++) {
    const id = load<i32>(ids + (<usize>t << 2));
    const to = out + <usize>t * bytes;
    if (id >= firstId && id < lastId) memory.copy(to, table + <usize>(id - firstId) * bytes, bytes);
    else memory.fill(to, 0, bytes);
  }
}
