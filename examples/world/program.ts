import type { RankContext } from "@lockstep/dist-groups";
import { Tensor } from "@lockstep/tensor";

/** Every rank runs this; the host calls what it returns. */
export function setup({ heap, rank, size, world, group }: RankContext) {
  return {
    /** Sum over all ranks of (rank + 1) * scale. */
    sum(scale: number): number[] {
      const tensor = Tensor.empty(heap, "f32", [4]).fill((rank + 1) * scale);
      world.allReduce(tensor, tensor);
      return [...tensor.f32];
    },
    /** Every rank of this rank's pair, gathered along the first dimension. */
    pair(): number[] {
      const pair = group("pair");
      const mine = Tensor.from(heap, "i32", [1], [rank]);
      const all = Tensor.empty(heap, "i32", [pair.size]);
      pair.allGather(mine, all);
      return [...all.i32];
    },
    /** Rank 2 forgets to come. */
    forgetful(): void {
      if (rank !== 2) world.barrier({ deadlineMs: 200 });
    },
    size: () => size,
  };
}
