import type { Completion, GpuTensor } from "@lockstep/kernels";
import type { GpuBench } from "./gpu-bench.ts";

/** One op at one shape and dtype. */
export interface BenchRow {
  readonly op: string;
  readonly shape: string;
  readonly dtype: string;
  /** Bytes that must be moved at least once. */
  readonly bytes: number;
  /** Floating-point operations, where arithmetic may bound it. */
  readonly flops?: number;
  /** What bounds it. */
  readonly ceiling: "copy" | "read";
  /** Makes the operands. */
  readonly prepare: (bench: GpuBench) => Promise<PreparedRow>;
}

/** A row whose operands lie on the GPU. */
export interface PreparedRow {
  /**
   * Call number `call`: inputs and outputs rotate, over more bytes than caches hold, except for one output that all
   * calls share, so that each waits for the one before it as in a step of a model.
   */
  readonly run: (call: number) => Completion;
  /** Outputs of call 0, to be poisoned before it. */
  readonly outputs: readonly GpuTensor[];
  /** Largest error of call 0's sampled results against float64, in units of the tolerance: at most 1. */
  readonly error: () => Promise<number>;
  readonly free: () => void;
}

/** How many sets of operands of `bytes` each rotate. */
export function setsFor(bytes: number): number {
  return Math.max(2, Math.min(32, Math.ceil((256 << 20) / bytes)));
}

/** Frees tensors, each once. */
export function freeAll(tensors: Iterable<GpuTensor>): void {
  for (const tensor of new Set(tensors)) tensor.free();
}

/** |actual - expected| in units of `tolerance * (|expected| + floor)`; infinite for a NaN. */
export function errorOf(actual: number, expected: number, tolerance: number, floor = 1e-3): number {
  if (actual === expected) return 0;
  const error = Math.abs(actual - expected) / (tolerance * (Math.abs(expected) + floor));
  return Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
}

/** Indexes spread over [0, count), both ends included. */
export function samples(count: number, wanted = 24): number[] {
  const last = Math.min(count, wanted) - 1;
  return Array.from({ length: last + 1 }, (_, i) => (last === 0 ? 0 : Math.round((i * (count - 1)) / last)));
}

export const TOLERANCE = { f32: 2e-5, f16: 1e-3, bf16: 8e-3 } as const;

/** The set of operands of a call. */
export function at<T>(sets: readonly T[], call: number): T {
  const set = sets[call % sets.length];
  if (set === undefined) throw new RangeError("no sets of operands");
  return set;
}
