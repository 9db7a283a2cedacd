// The rank's side of the tests of results that lie over one another, or over the caches.
import { type Combine, DcpAttention } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { LockstepError, Tensor } from "@lockstep/tensor";
import { openTestBackend, type TestBackend } from "./test-backend.ts";

const [TOKENS, HEADS, HEAD_DIM] = [3, 2, 4];

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: { backend: TestBackend }) {
  const { heap, world, size } = context;
  const backend = await openTestBackend(context, options.backend);
  const tensor = (...shape: number[]): Tensor => Tensor.empty(heap, "f32", shape).fill(0.5);

  return {
    /** What each placement of `out` and `lse` leads to, and whether the caches are as they were. */
    async place(combine: Combine, by: "forward" | "prefill"): Promise<Record<string, string>> {
      const attention = DcpAttention.open({
        backend,
        heap,
        dcpGroup: world,
        layers: 1,
        queryHeads: HEADS * size,
        kvHeads: 1,
        headDim: HEAD_DIM,
        kvDtype: "f32",
        blockSize: 2,
        numBlocks: 8,
        combine,
        prefillChunk: 2,
      });
      const sequence = attention.createSequence();
      const [query, key, value] = [
        tensor(TOKENS, HEADS, HEAD_DIM),
        tensor(TOKENS, 1, HEAD_DIM),
        tensor(TOKENS, 1, HEAD_DIM),
      ];
      const out = tensor(TOKENS, HEADS, HEAD_DIM);
      const caches = [attention.keyCache(0), attention.valueCache(0)].filter((cache) => cache instanceof Tensor);
      const [keys = tensor(16, HEAD_DIM), values = keys] = caches.map((cache) => cache.reshape([16, HEAD_DIM]));
      const within = (cache: Tensor): Tensor => cache.slice(0, 0, TOKENS * HEADS).reshape([TOKENS, HEADS, HEAD_DIM]);
      const places: Record<string, readonly [out: Tensor, lse: Tensor | undefined]> = {
        "lse within out": [out, out.select(2, 1)],
        "out over itself": [Tensor.fromDescriptor({ ...out.descriptor, strides: [0, HEAD_DIM, 1] }, heap), undefined],
        "lse over itself": [out, Tensor.fromDescriptor({ ...query.descriptor, ...LSE_OVER_ITSELF }, heap)],
        "out within the key cache": [within(keys), undefined],
        "out within the value cache": [within(values), undefined],
        "lse within the key cache": [out, keys.slice(0, 0, TOKENS).slice(1, 0, HEADS)],
        "lse within the value cache": [out, values.slice(0, 0, TOKENS).slice(1, 0, HEADS)],
      };
      const said: Record<string, string> = {};
      for (const [place, [placed, lse]] of Object.entries(places)) {
        const before = caches.map((cache) => Buffer.from(cache.bytes).toString("hex"));
        if (by === "forward") attention.beginStep([{ sequence, tokens: TOKENS }]);
        else attention.beginPrefill([{ sequence, tokens: TOKENS }]);
        const error: unknown = await attention[by](0, query, key, value, placed, lse).catch(
          (thrown: unknown) => thrown,
        );
        attention.cancelStep();
        const isSame = caches.every((cache, index) => Buffer.from(cache.bytes).toString("hex") === before[index]);
        said[place] =
          `${error instanceof LockstepError ? error._tag : "none"}${isSame ? "" : ", and something written"}`;
      }
      attention.close();
      return said;
    },
  };
}

const LSE_OVER_ITSELF = { shape: [TOKENS, HEADS], strides: [1, 1] } as const;
