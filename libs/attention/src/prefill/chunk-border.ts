// Where the contexts of a prefill may be cut.
import { Tensor } from "@lockstep/tensor";
import type { ResolvedOptions } from "../options/resolved-options.ts";

/**
 * Positions at whose multiples contexts are cut: there every shard has as many keys as each rank's backend can end a
 * call's sums at, and whole turns. The ranks' backends may differ, and must cut alike. Called by every rank of the DCP
 * group together.
 * @throws HeapExhausted; the group's errors when ranks do not come
 */
export function agreedBorder({ backend, groups, model, heap, exchange }: ResolvedOptions): number {
  const { count, interleave } = groups.shard;
  const { deadlineMs } = exchange;
  const own = Tensor.from(heap, "i32", [1], [backend.sumsBorder(model.headDim, model.valueDim)]);
  try {
    const all = Tensor.empty(heap, "i32", [count]);
    try {
      groups.dcp.allGather(own, all, { dim: 0, deadlineMs });
      return count * all.toNumbers().reduce(leastCommonMultiple, interleave);
    } finally {
      all.free();
    }
  } finally {
    own.free();
  }
}

function leastCommonMultiple(a: number, b: number): number {
  let multiple = a;
  while (multiple % b !== 0) multiple += a;
  return multiple;
}
