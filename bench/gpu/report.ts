import type { Ceilings } from "./ceilings.ts";

/** What `bench:gpu --json` prints. */
export interface Report {
  /** The GPU's name. */
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
