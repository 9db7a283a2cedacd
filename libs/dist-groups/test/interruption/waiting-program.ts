import type { RankContext } from "@lockstep/dist-groups";
import { Tensor } from "@lockstep/tensor";

export interface WaitingOptions {
  /** A word of this buffer counts the ranks that have made their memory resident. */
  readonly begun: SharedArrayBuffer;
  /** `setup` never returns. */
  readonly forEver: boolean;
}

/** A rank that makes 32 MiB of the shared memory resident, and waits. */
export async function setup({ heap, rank, group }: RankContext, { begun, forEver }: WaitingOptions) {
  Tensor.empty(heap, "u8", [32 << 20]).fill(1);
  Atomics.add(new Int32Array(begun), 0, 1);
  if (forEver) await new Promise(() => undefined);
  return {
    ready: () => rank,
    /** Rank 0 waits in a collective of a group for the others, which do not come. */
    stall: (name: string): void => {
      if (rank === 0) group(name).barrier();
    },
  };
}
