/** Bytes per second that a plain copy moves (read and written), and that are read when nothing is written. */
export interface Ceilings {
  readonly copy: number;
  readonly read: number;
}

/** What `bench:gpu --json` and `bench:cpu --json` print. */
export interface Report {
  /** The name of the GPU or the processor. */
  readonly device: string;
  readonly ceilings: Ceilings;
  readonly rows: readonly RowReport[];
}

/** A row's figures. */
export interface RowReport {
  readonly op: string;
  readonly shape: string;
  readonly dtype: string;
  readonly microseconds: number;
  readonly gigabytesPerSecond: number;
  /** Where the op computes: multiply-adds count two. */
  readonly teraflopsPerSecond?: number;
  readonly ceiling: "copy" | "read";
  readonly shareOfCeiling: number;
  /** For copies: against a copy that moves as many bytes in one dispatch. */
  readonly shareOfCopyOfThatSize?: number;
  /** A recorded time of another implementation; speed-up above 1 means that this one is faster. */
  readonly anchor?: { readonly name: string; readonly microseconds: number; readonly speedup: number };
  /** Largest error found, in units of the tolerance. */
  readonly error: number;
}
