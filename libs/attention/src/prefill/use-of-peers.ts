import type { ProcessGroup, ReadOptions } from "@lockstep/dist-groups";
import type { Completion } from "@lockstep/kernels";
import type { Tensor } from "@lockstep/tensor";

/**
 * Runs `use` over what every rank of a group shows, and awaits what it begins, whatever comes of the exchange: when this
 * returns or throws, nothing is under way that reads or writes their tensors' copies.
 * @param own what this rank shows
 * @param use given the tensors of each rank, in rank order; begins ops, and returns their completions
 * @throws the group's errors; else what the first of the ops that failed threw
 */
export async function useOfPeers(
  group: Pick<ProcessGroup, "readPeers">,
  own: readonly Tensor[],
  use: (peers: readonly (readonly Tensor[])[]) => readonly Completion[],
  options: ReadOptions,
): Promise<void> {
  let begun: readonly Completion[] = [];
  try {
    group.readPeers(
      own,
      (peers) => {
        begun = use(peers);
      },
      options,
    );
  } catch (error) {
    await Promise.allSettled(begun);
    throw error;
  }
  for (const end of await Promise.allSettled(begun)) if (end.status === "rejected") throw end.reason;
}
