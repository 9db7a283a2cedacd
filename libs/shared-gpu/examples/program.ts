// What every rank does: attention over its share of the tokens, on a GPU whose device rank 0 holds for all.
import { DcpAttention } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { openBackend, type OpenBackendOptions } from "@lockstep/kernels";
import { openSharedBackend } from "@lockstep/shared-gpu";
import { Tensor } from "@lockstep/tensor";

export async function setup({ heap, world, onClose }: RankContext, gpu: Pick<OpenBackendOptions, "adapter">) {
  const backend = await openSharedBackend({ heap, group: world, ...gpu });
  onClose(() => backend.close());
  // Partial outputs lie in the shared heap: they are merged there.
  const mergeBackend = await openBackend("wasm", { heap });
  onClose(() => mergeBackend.close());
  const attention = DcpAttention.open({
    backend,
    mergeBackend,
    heap,
    dcpGroup: world,
    layers: 1,
    queryHeads: 8,
    kvHeads: 2,
    headDim: 64,
    kvDtype: "f16",
    blockSize: 16,
    numBlocks: 64,
  });
  onClose(() => attention.close());
  const sequence = attention.createSequence();
  const tensor = (heads: number) => Tensor.zeros(heap, "f32", [1, heads, 64]).fill(0.5);
  const [query, key, value, out] = [tensor(8 / world.size), tensor(2), tensor(2), tensor(8 / world.size)];
  return {
    async step(): Promise<string> {
      attention.beginStep([{ sequence, tokens: 1 }]);
      await attention.forward(0, query, key, value, out);
      attention.endStep();
      return `${attention.metrics.tokensHeld} tokens held, attention ${out.at(0, 0, 0)}`;
    },
  };
}
