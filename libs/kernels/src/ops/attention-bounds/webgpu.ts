import { expectContiguousOnGpu } from "../../webgpu/contiguous.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import { expectBoundsOnGpu } from "../lattice-sums/bounds-on-gpu.ts";
import { recordLattice } from "../lattice-sums/record-lattice.ts";
import type { AttentionBoundsArgs, AttentionBoundsPlan } from "./index.ts";

/** Records attentionBounds. `plan` is what the check of `args` returned. It keeps no scores. */
export function recordAttentionBounds(recorder: Recorder, args: AttentionBoundsArgs, plan: AttentionBoundsPlan): void {
  const { query, bounds } = args;
  expectContiguousOnGpu("attentionBounds", "query", query);
  expectBoundsOnGpu("attentionBounds", bounds);
  if (plan.tokens === 0 || plan.queryHeads === 0) return;
  const { continues } = plan;
  const result = continues ? recorder.update(bounds) : recorder.write(bounds);
  recordLattice(recorder, args, plan, { result, bounds: undefined, continues });
}
