// What every rank does: its share of a sequence's tokens, and attention over all of them with its peers.
import { DcpAttention } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { Tensor } from "@lockstep/tensor";

export async function setup({ heap, world, onClose }: RankContext) {
  const backend = await openBackend("wasm", { heap });
  onClose(() => backend.close());
  const shape = { layers: 1, queryHeads: 8, kvHeads: 2, headDim: 64 } as const;
  const cache = { kvDtype: "f16", blockSize: 16, numBlocks: 64 } as const;
  const attention = DcpAttention.open({ backend, heap, dcpGroup: world, ...shape, ...cache });
  onClose(() => attention.close());
  const sequence = attention.createSequence();
  const tensor = (heads: number) => Tensor.zeros(heap, "f32", [1, heads, 64]).fill(0.5);
  const [query, key, value, out] = [tensor(8 / world.size), tensor(2), tensor(2), tensor(8 / world.size)];
  return {
    /** Stores one more token, and attends to all. Returns how many tokens this rank holds. */
    async step(): Promise<number> {
      attention.beginStep([{ sequence, tokens: 1 }]);
      await attention.forward(0, query, key, value, out);
      attention.endStep();
      return attention.metrics.tokensHeld;
    },
  };
}
