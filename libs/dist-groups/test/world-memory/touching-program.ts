// A rank that makes 32 MiB of the shared memory resident, and then may fail.
import type { RankContext } from "@lockstep/dist-groups";
import { Tensor } from "@lockstep/tensor";

/** Called by the world on every rank. */
export function setup({ heap, rank }: RankContext, options: { readonly fail: boolean }) {
  Tensor.empty(heap, "u8", [32 << 20]).fill(1);
  if (options.fail && rank === 1) throw new RangeError("rank 1 does not start");
  return { ready: () => true };
}
