import type { ProcessGroup } from "@lockstep/dist-groups";
import type { DType } from "@lockstep/tensor";

/**
 * How the partial outputs of a DCP group become each rank's own heads' attention:
 * - `ag-rs`: all-gather of the LSEs, correction, reduce-scatter. The original's way; sums in rank order.
 * - `a2a`: each rank reads its own heads' outputs and LSEs where the peers left them, all in one exchange, and merges
 *   them.
 * - `one-shot`: every output row goes out with its LSE behind it, in one message per peer through the group's staging
 *   memory; the receiver merges. One round without acknowledgement: for small sizes.
 *
 * All fold in rank order in f32: on the wasm backend the same f32 partial outputs give the same bits by each. ag-rs
 * alone rounds once more where corrected outputs are narrower than the arithmetic: partial outputs in f16 or bf16, or
 * the float64 of the reference backend. On webgpu the compiler decides how products and sums are fused, so ag-rs may
 * differ in the last bit.
 */
export type Combine = "ag-rs" | "a2a" | "one-shot";

/**
 * What is taken where nothing was chosen and nothing measured: it leaves partial results as they are, writes any dtype,
 * and each rank reads its own heads alone.
 */
export const DEFAULT_COMBINE: Combine = "a2a";

/** In the order in which `auto` prefers them when they cost the same. */
export const COMBINES: readonly Combine[] = [DEFAULT_COMBINE, "one-shot", "ag-rs"];

/** Dtypes of outputs, partial and combined. */
export const OUTPUT_DTYPES: readonly DType[] = ["f32", "f16", "bf16"];

/** True when two groups hold the same ranks in the same order. */
export function sameRanks(a: ProcessGroup, b: ProcessGroup): boolean {
  return a.size === b.size && a.ranks.every((rank, index) => rank === b.ranks[index]);
}
