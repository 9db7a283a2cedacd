import { expectContiguousOnGpu } from "../../webgpu/contiguous.ts";
import type { Recorder } from "../../webgpu/recorder.ts";
import type { LatticeSumsArgs, LatticeSumsPlan } from "./index.ts";
import { expectBoundsOnGpu } from "./bounds-on-gpu.ts";
import { recordLattice } from "./record-lattice.ts";

/**
 * Records latticeSums. `plan` is what the check of `args` returned. Scores are computed again: reading keys twice costs
 * less than writing and reading scores of every query head.
 */
export function recordLatticeSums(recorder: Recorder, args: LatticeSumsArgs, plan: LatticeSumsPlan): void {
  const { query, bounds, sums } = args;
  expectContiguousOnGpu("latticeSums", "query", query);
  expectContiguousOnGpu("latticeSums", "sums", sums);
  expectBoundsOnGpu("latticeSums", bounds);
  if (plan.tokens === 0 || plan.queryHeads === 0) return;
  const { continues } = plan;
  const result = continues ? recorder.update(sums) : recorder.write(sums);
  recordLattice(recorder, args, plan, { result, bounds: recorder.read(bounds), continues });
}
