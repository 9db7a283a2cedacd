// Where the contexts of a prefill may be cut.
import { type KvShard, kvWeight, kvWeightSum } from "@lockstep/kernels";
import { Tensor } from "@lockstep/tensor";
import type { ResolvedOptions } from "../options/resolved-options.ts";

/**
 * Positions at whose multiples contexts are cut: there every shard has as many keys as each rank's backend can end a
 * call's sums at, and whole turns. The ranks' backends may differ, and must cut alike. Called by every rank of the DCP
 * group together.
 * @throws HeapExhausted; the group's errors when ranks do not come
 */
export function agreedBorder({ backend, groups, model, heap, exchange }: ResolvedOptions): number {
  const { shard } = groups;
  const { deadlineMs } = exchange;
  const own = Tensor.from(heap, "i32", [1], [backend.sumsBorder(model.headDim, model.valueDim)]);
  try {
    const all = Tensor.empty(heap, "i32", [shard.count]);
    try {
      groups.dcp.allGather(own, all, { dim: 0, deadlineMs });
      return contextBorder(shard, all.toNumbers());
    } finally {
      all.free();
    }
  } finally {
    own.free();
  }
}

/**
 * The shortest run of whole rounds in which every shard stores whole multiples of each of `keys` keys.
 * @param shard any of the shards
 */
export function contextBorder(shard: KvShard, keys: Iterable<number>): number {
  let rounds = 1;
  for (let index = 0; index < shard.count; index++) {
    const turn = kvWeight(shard, index) * shard.interleave;
    // Nothing is a multiple of anything.
    if (turn === 0) continue;
    for (const some of keys) rounds = leastCommonMultiple(rounds, some / greatestCommonDivisor(some, turn));
  }
  return rounds * kvWeightSum(shard) * shard.interleave;
}

function leastCommonMultiple(a: number, b: number): number {
  return (a / greatestCommonDivisor(a, b)) * b;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
