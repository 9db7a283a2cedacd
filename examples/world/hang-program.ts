import type { RankContext } from "@lockstep/dist-groups";
import { Tensor } from "@lockstep/tensor";

function computeFor(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

export function setup({ heap, rank, world, group }: RankContext) {
  const hidden = Tensor.zeros(heap, "f32", [8, 64]);
  const gathered = Tensor.zeros(heap, "f32", [16, 64]);
  return {
    /** Gathers within the pair, then sums over all; rank `slow` is late for the sum. */
    step(slow: number): void {
      group("pair").allGather(hidden, gathered);
      if (rank === slow) computeFor(600);
      world.allReduce(hidden, hidden, { deadlineMs: 300 });
    },
  };
}
