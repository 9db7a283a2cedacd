// What kernels of attention are told, and how they find their way by it: rows of caches, scales, what is visible.
//
// Parameters are u32 in a table, in the order of the constants below; strides in bytes.

export const QUERY: usize = 0; // pointer, token stride, head stride, column stride, dtype (0 f32, 1 f16, 2 bf16, 3 f8e4m3)
export const KEY: usize = 20; // pointer, block stride, offset stride, head stride
export const VALUE: usize = 36;
export const TABLE: usize = 52; // block table: pointer, row stride, column stride
export const SEQUENCES: usize = 64; // pointers to one i32 per token
export const STARTS: usize = 68;
export const ENDS: usize = 72;
export const TOKENS: usize = 76;
export const QUERY_HEADS: usize = 80;
export const KEY_DIM: usize = 84;
export const VALUE_DIM: usize = 88;
export const BLOCK_SIZE: usize = 92;
export const GROUP_SIZE: usize = 96;
export const GROUP_OFFSET: usize = 100;
export const SCALE: usize = 104; // f32; scores are in units of ln 2
export const SOFTCAP: usize = 108; // f32, in units of ln 2; 0 for none
export const OUT: usize = 112; // pointer, token stride, head stride, column stride
export const LSE: usize = 128; // pointer, token stride, head stride
export const MAX_ROWS: usize = 140;
export const TILE_KEYS: usize = 144; // multiple of 4, at most 128
export const Q_ROWS: usize = 148; // scratch: maxRows x padded key dim
export const O_ROWS: usize = 152; // maxRows x padded value dim
export const S_ROWS: usize = 156; // maxRows x SCORE_STRIDE bytes
export const STATE: usize = 160; // maxRows x (max, sum, rescale, first visible key of the tile, one past the last)
export const POINTERS: usize = 164; // tileKeys pointers each to key rows, value rows, tile rows, and the scales of both
export const TILE: usize = 168; // KV heads x tileKeys x the larger padded dim: keys, later values, as f32
export const TOUCHED: usize = 172; // what touchRows read
export const SINKS: usize = 176; // one f32 per query head, in units of ln 2; 0 for none
export const KEY_SCALES: usize = 180; // one f32 per KV head; 0 for none
export const VALUE_SCALES: usize = 184;
export const SPREAD: usize = 188; // scratch of weightedSum: 4 x SPREAD_STRIDE bytes, then 4 x padded value dim
// One f32 per row of the keys: pointer (0 for none), block stride, offset stride, head stride.
export const KEY_ROW_SCALES: usize = 192;
export const VALUE_ROW_SCALES: usize = 208;
export const SUMS: usize = 224; // continued sums of every row: pointer (0 for none), token and head strides
export const SUMS_FIRST: usize = 236; // 1 where sums begin, 0 where they go on
export const SUMS_LAST: usize = 240; // 1 where they end in out and lse, 0 where they are kept
// Of world-invariant attention. Zeros for partialAttention.
export const BOUNDS: usize = 244; // pointer, strides of the three bounds, of tokens and of heads
export const KEPT: usize = 260; // kept scores: pointer (0 for none), token and head strides
export const LATTICE: usize = 272; // sums: pointer, token and head strides
export const CONTINUES: usize = 284; // 1 where bounds or sums go on from what is there
export const EXPONENTS: usize = 288; // scratch: KV heads x SCORE_STRIDE bytes
export const ROW_SUMS: usize = 292; // scratch: maxRows x ROW_SUMS_BYTES, see lattice-sums.as.ts
/** Rows that are worked on: token, tokens, head, one past the last head, sequence, first key, one past the last. */
export const PASS: usize = 296;

/** Bytes of a row's state. */
export const STATE_BYTES: i32 = 20;
/** KV heads that share a tile; one more where a pass begins within a group. */
export const MAX_TILE_HEADS: i32 = 16;

// @ts-ignore: decorator
@inline
export function pad4(dim: i32): i32 {
  return (dim + 3) & ~3;
}

/** What an element of a KV head stands for, by KEY_SCALES or VALUE_SCALES; 1 when there are no scales. */
// @ts-ignore: decorator
@inline
export function headScale(p: usize, scales: usize, kvHead: i32): f32 {
  const table: usize = load<u32>(p + scales);
  return table == 0 ? 1 : load<f32>(table + kvHead * 4);
}

/**
 * Pointers to KV head 0 of `count` rows of a cache (KEY, VALUE, or the scales of either) from local index `first` on.
 */
export function findRows(p: usize, cache: usize, sequence: i32, first: i32, count: i32, rows: usize): void {
  const blockSize = load<i32>(p, BLOCK_SIZE);
  const base: usize = load<u32>(p + cache);
  const blockStride = load<u32>(p + cache, 4);
  const offsetStride = load<u32>(p + cache, 8);
  const columnStride = load<u32>(p, TABLE + 8);
  let entry: usize = load<u32>(p, TABLE) + sequence * load<u32>(p, TABLE + 4) + (first / blockSize) * columnStride;
  let offset = first % blockSize;
  let key = 0;
  while (key < count) {
    let row = base + load<u32>(entry) * blockStride + offset * offsetStride;
    const stop = min(count, key + blockSize - offset);
    for (; key < stop; key++) {
      store<u32>(rows + key * 4, <u32>row);
      row += offsetStride;
    }
    entry += columnStride;
    offset = 0;
  }
}

/** Which keys of the tile each row of a KV head sees, into the rows' states. */
export function writeVisible(
  p: usize,
  token: i32,
  tokenCount: i32,
  heads: i32,
  first: i32,
  count: i32,
  state: usize,
): void {
  for (let index = token; index < token + tokenCount; index++) {
    const from = min(count, max(0, load<i32>(load<u32>(p, STARTS) + index * 4) - first));
    const stop = max(from, min(count, load<i32>(load<u32>(p, ENDS) + index * 4) - first));
    for (let row = 0; row < heads; row++) {
      store<i32>(state, from, 12);
      store<i32>(state, stop, 16);
      state += STATE_BYTES;
    }
  }
}
