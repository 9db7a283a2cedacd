import { WordTable } from "../../wasm/word-table.ts";

/** What write-kv-cache.as.ts is told of rows and their cache. */
export const VIEW_TABLE = new WordTable({
  /** Pointer, token, head and column strides. */
  SOURCE: 4,
  /** Pointer, block, offset and head strides. */
  TARGET: 4,
  TOKENS: 1,
  HEADS: 1,
  COLUMNS: 1,
  BLOCK_SIZE: 1,
  /** Pointer to the heads' factors. */
  FACTORS: 1,
  /** Pointer to the scales of rows (0 for none), block, offset and head strides. */
  SCALES: 4,
});
