// What every rank does: its share of the tokens of every sequence, and attention over all of them with its peers.
import { DcpAttention } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { Tensor } from "@lockstep/tensor";

/** Heads of one layer, and their width. */
export const SHAPE = { queryHeads: 8, kvHeads: 2, headDim: 64 } as const;

/** A token's vectors, head after head: 512 numbers of the query, 128 of the key, 128 of the value. */
export interface Token {
  readonly query: readonly number[];
  readonly key: readonly number[];
  readonly value: readonly number[];
}

export async function setup({ heap, rank, world, onClose }: RankContext) {
  const { queryHeads, kvHeads, headDim } = SHAPE;
  const backend = await openBackend("wasm", { heap });
  onClose(() => backend.close());
  const options = { ...SHAPE, layers: 1, kvDtype: "f16", blockSize: 16, numBlocks: 256 } as const;
  const attention = DcpAttention.open({ backend, heap, dcpGroup: world, ...options });
  onClose(() => attention.close());

  const own = queryHeads / world.size;
  const [query, out] = [Tensor.empty(heap, "f32", [1, own, headDim]), Tensor.empty(heap, "f32", [1, own, headDim])];
  const [key, value] = [
    Tensor.empty(heap, "f32", [1, kvHeads, headDim]),
    Tensor.empty(heap, "f32", [1, kvHeads, headDim]),
  ];
  return {
    create: (): number => attention.createSequence(),
    free: (sequence: number): void => attention.freeSequence(sequence),
    /** Stores a token and attends for it: this rank's heads, and how many tokens of all sequences it holds. */
    async decode(sequence: number, token: Token): Promise<{ out: number[]; held: number }> {
      query.f32.set(token.query.slice(rank * own * headDim, (rank + 1) * own * headDim));
      key.f32.set(token.key);
      value.f32.set(token.value);
      attention.beginStep([{ sequence, tokens: 1 }]);
      await attention.forward(0, query, key, value, out);
      attention.endStep();
      return { out: [...out.f32], held: attention.metrics.tokensHeld };
    },
  };
}
