// The rank's side of the tests of what differs between layers, and of results in 16 bits.
import { type Combine, DcpAttention, type DcpAttentionOptions } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { type DType, Tensor } from "@lockstep/tensor";
import { RandomStream } from "../../../tests/random.ts";

const [HEADS, DIM, TOKENS] = [6, 8, 11];

/** Called by the world on every rank. */
export async function setup({ heap, world, onClose }: RankContext) {
  const backend = await openBackend("wasm", { heap });
  onClose(() => backend.close());
  const { start, end } = headRange(HEADS, world.rank, world.size);
  const random = (seed: number, heads: number, dtype: DType = "f32"): Tensor =>
    Tensor.from(heap, dtype, [TOKENS, heads, DIM], new RandomStream(seed).normals(TOKENS * heads * DIM));

  const open = (options: Partial<DcpAttentionOptions>): DcpAttention =>
    DcpAttention.open({
      backend,
      heap,
      dcpGroup: world,
      layers: 1,
      queryHeads: HEADS,
      kvHeads: 2,
      headDim: DIM,
      kvDtype: "i8",
      kvScales: { key: 0.03, value: 0.03 },
      blockSize: 4,
      numBlocks: 8,
      ...options,
    });

  /** A step of TOKENS tokens on every layer; this rank's results, layer after layer. */
  async function step(attention: DcpAttention, layers: readonly number[], half?: DType): Promise<number[]> {
    const results: number[] = [];
    attention.beginStep([{ sequence: attention.createSequence(), tokens: TOKENS }]);
    for (const [index, layer] of layers.entries()) {
      const query = random(10 + layer, HEADS, half).slice(1, start, end);
      const out = Tensor.empty(heap, half ?? "f32", [TOKENS, end - start, DIM]);
      await attention.forward(index, query, random(20 + layer, 2), random(30 + layer, 2), out);
      results.push(...out.toNumbers());
    }
    attention.endStep();
    attention.close();
    return results;
  }

  return {
    /** Three layers of different windows, sinks and scales, at once and one by one. */
    async layers(): Promise<{ together: number[]; apart: number[] }> {
      const window = [3, null, 5];
      const kvScales = [0.03, 0.02, 0.05].map((key) => ({ key, value: [2 * key, 3 * key] }));
      const sinks = Tensor.from(heap, "f32", [3, HEADS], new RandomStream(4).normals(3 * HEADS));
      const together = await step(open({ layers: 3, window, kvScales, sinks }), [0, 1, 2]);
      const apart: number[] = [];
      for (const layer of [0, 1, 2]) {
        const own = window[layer] ?? undefined;
        const scales = kvScales[layer];
        const attention = open({
          ...(own === undefined ? {} : { window: own }),
          ...(scales === undefined ? {} : { kvScales: scales }),
          sinks: sinks.slice(0, layer, layer + 1),
        });
        apart.push(...(await step(attention, [layer])));
      }
      return { together, apart };
    },

    /** Queries and results in a 16-bit dtype, by a combine. */
    async halves(half: "f16" | "bf16", combine: Combine): Promise<number[]> {
      return step(open({ queryDtype: half, combine }), [0], half);
    },
  };
}
