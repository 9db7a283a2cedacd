// A rank that makes 32 MiB of the shared memory resident.
import type { RankContext } from "@lockstep/dist-groups";
import { Tensor } from "@lockstep/tensor";

/** Called by the world on every rank. */
export function setup({ heap }: RankContext) {
  Tensor.empty(heap, "u8", [32 << 20]).fill(1);
  return { ready: () => true };
}
