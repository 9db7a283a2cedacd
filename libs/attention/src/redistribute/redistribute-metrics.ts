/** What a rank did while a context moved. Rows are counted once, for all layers together. */
export interface RedistributeMetrics {
  /** Rows of the KV cache, one for each stored token, that went to other ranks. */
  readonly rowsSent: number;
  /** Rows that came from other ranks. */
  readonly rowsReceived: number;
  /** Rows that stayed on this rank, and were copied there. */
  readonly rowsKept: number;
  /** Bytes of keys, values and their scales, over all layers, that went to other ranks. */
  readonly bytesSent: number;
  /** Bytes of keys, values and their scales, over all layers, that came from other ranks. */
  readonly bytesReceived: number;
  /** How often a part of the rows was moved, on all ranks at the same time. */
  readonly rounds: number;
  /** Bytes of the heap that rows on their way took: at most the `workspaceBytes`. */
  readonly workspaceBytes: number;
  /** Known tokens that are not known any more: ends of texts that fill no new block, and what found no room. */
  readonly forgottenTokens: number;
}

/** The same while it is counted. */
export type RedistributeCounts = { -readonly [Name in keyof RedistributeMetrics]: number };
