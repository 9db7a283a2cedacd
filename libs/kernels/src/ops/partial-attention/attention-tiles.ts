// How many keys attention sums together.
/** Columns of keys in a tile: small enough for the L1 cache, many enough to amortise a row's rescale. */
const TILE_ELEMENTS = 4096;
const MAX_TILE_KEYS = 128;
const MIN_TILE_KEYS = 16;

/**
 * Keys that are summed together, from every multiple of their number on in local indexes; a multiple of 4.
 * @param keyDim columns of a key
 * @param valueDim columns of a value
 */
export function attentionTileKeys(keyDim: number, valueDim: number): number {
  const columns = Math.max(4, Math.ceil(keyDim / 4) * 4, Math.ceil(valueDim / 4) * 4);
  return Math.min(MAX_TILE_KEYS, Math.max(MIN_TILE_KEYS, Math.floor(TILE_ELEMENTS / columns / 4) * 4));
}
