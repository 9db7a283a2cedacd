import { WordTable } from "../../wasm/word-table.ts";

/** Parameters of the kernels of attention, as in attention-table.as.ts. */
export const ATTENTION_TABLE = new WordTable({
  /** Pointer, token, head and column strides, dtype. */
  QUERY: 5,
  /** Pointer, block, offset and head strides. */
  KEY: 4,
  VALUE: 4,
  /** Pointer, row and column strides. */
  TABLE: 3,
  SEQUENCES: 1,
  STARTS: 1,
  ENDS: 1,
  TOKENS: 1,
  QUERY_HEADS: 1,
  KEY_DIM: 1,
  VALUE_DIM: 1,
  BLOCK_SIZE: 1,
  GROUP_SIZE: 1,
  GROUP_OFFSET: 1,
  SCALE: 1,
  SOFTCAP: 1,
  /** Pointer, token, head and column strides. */
  OUT: 4,
  /** Pointer, token and head strides. */
  LSE: 3,
  MAX_ROWS: 1,
  TILE_KEYS: 1,
  Q_ROWS: 1,
  O_ROWS: 1,
  S_ROWS: 1,
  STATE: 1,
  POINTERS: 1,
  TILE: 1,
  TOUCHED: 1,
  SINKS: 1,
  KEY_SCALES: 1,
  VALUE_SCALES: 1,
  SPREAD: 1,
  /** Pointer (0 for none), block, offset and head strides. */
  KEY_ROW_SCALES: 4,
  VALUE_ROW_SCALES: 4,
  /** Pointer (0 for none), token and head strides. */
  SUMS: 3,
  SUMS_FIRST: 1,
  SUMS_LAST: 1,
  /** Pointer, strides of the three bounds, of tokens and of heads. */
  BOUNDS: 4,
  /** Pointer (0 for none), token and head strides. */
  KEPT: 3,
  /** Pointer, token and head strides. */
  LATTICE: 3,
  CONTINUES: 1,
  EXPONENTS: 1,
  ROW_SUMS: 1,
  /** Of the rows that are worked on: written by the kernels alone. */
  PASS: 7,
});
