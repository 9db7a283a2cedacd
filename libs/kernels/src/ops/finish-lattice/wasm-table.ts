import { WordTable } from "../../wasm/word-table.ts";

/** Parameters of finish-lattice.as.ts. */
export const FINISH_TABLE = new WordTable({
  /** Pointer, strides of the three bounds, of tokens and of heads. */
  BOUNDS: 4,
  /** Sums: pointer, token and head strides. */
  LATTICE: 3,
  /** Pointer, token, head and column strides. */
  OUT: 4,
  /** Pointer, token and head strides. */
  LSE: 3,
  TOKENS: 1,
  HEADS: 1,
  VALUE_DIM: 1,
});
