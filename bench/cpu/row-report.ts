import type { Ceilings, RowReport } from "../report.ts";

/** What a row measures. */
export interface OpRow {
  readonly op: string;
  readonly shape: string;
  readonly dtype: string;
  /** Bytes that must be read and written at least once; for the read ceiling, read. */
  readonly bytes: number;
  /** Multiply-adds count two. */
  readonly flops?: number;
  readonly ceiling: "copy" | "read";
}

/** Recorded medians of others on two cores (ggml and ONNX Runtime with two threads), f16 and f32 caches. */
const ANCHORS: readonly { readonly row: string; readonly name: string; readonly seconds: number }[] = [
  { row: "decode, 2 ranks Hq64 Hkv8 L7680 D64 f16", name: "ggml", seconds: 7.9e-3 },
  { row: "decode, 2 ranks Hq64 Hkv8 L7680 D64 f32", name: "ONNX Runtime", seconds: 9.2e-3 },
  { row: "decode, 2 ranks Hq32 Hkv8 L32768 D128 f32", name: "ONNX Runtime", seconds: 43e-3 },
];

/** Whether a row's op, shape and dtype, as printed, contain `only`. */
export function isWanted({ op, shape, dtype }: OpRow, only: string): boolean {
  return `${op} ${shape} ${dtype}`.includes(only);
}

/** A row's figures. `error` is in units of the tolerance. */
export function rowReport(row: OpRow, seconds: number, error: number, ceilings: Ceilings): RowReport {
  const { op, shape, dtype, bytes, flops, ceiling } = row;
  const anchor = ANCHORS.find((candidate) => candidate.row === `${op} ${shape} ${dtype}`);
  return {
    op,
    shape,
    dtype,
    microseconds: seconds * 1e6,
    gigabytesPerSecond: bytes / seconds / 1e9,
    ...(flops === undefined ? {} : { teraflopsPerSecond: flops / seconds / 1e12 }),
    ceiling,
    shareOfCeiling: bytes / seconds / ceilings[ceiling],
    ...(anchor === undefined
      ? {}
      : { anchor: { name: anchor.name, microseconds: anchor.seconds * 1e6, speedup: anchor.seconds / seconds } }),
    error,
  };
}
