// A peer that is aborted while this rank still reads its tensor: the read must not count.
import { Tensor } from "@lockstep/tensor";
import type { RankContext } from "../src/index.ts";

/** Called by the world on every rank. */
export function setup({ heap, rank, world }: RankContext) {
  const tensor = Tensor.empty(heap, "f32", [4]).fill(rank + 1);
  let outcome = "nothing yet";
  return {
    /** Rank 1 reads for `slowMs`; rank 0 waits for its acknowledgement and overwrites its tensor once it is aborted. */
    readSlowly(slowMs: number): void {
      try {
        const seen = world.readPeers([tensor], (peers) => {
          if (rank === 1) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, slowMs);
          return peers[0]?.[0]?.at(0);
        });
        outcome = `read ${seen}`;
      } catch (error) {
        outcome = error instanceof Error ? error.name : String(error);
        tensor.fill(99);
      }
    },
    outcome: (): string => outcome,
  };
}
