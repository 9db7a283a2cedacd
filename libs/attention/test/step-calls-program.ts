// The rank's side of the call-count test: warms up attention over a cache on a (software) GPU, and counts one step's
// calls.
import { type Combine, DcpAttention } from "@lockstep/attention";
import type { RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { Tensor } from "@lockstep/tensor";
import { type CallCounts, countCalls } from "../../kernels/src/testing/count-calls.ts";
import { openTestBackend, type TestBackend } from "./test-backend.ts";

const [HEADS, KV_HEADS, HEAD_DIM] = [8, 2, 32];
const WARM_UP_STEPS = 4;

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: { backend: TestBackend }) {
  const { heap, world } = context;
  const backend = await openTestBackend(context, options.backend);
  const mergeBackend = await openBackend("wasm", { heap });
  context.onClose(() => mergeBackend.close());
  const tensor = (heads: number): Tensor => Tensor.zeros(heap, "f32", [1, heads, HEAD_DIM]).fill(0.5);

  return {
    /** Calls of Dawn in one step of a layer, once others have run; and the step's result. */
    async step(combine: Combine): Promise<{ counts: CallCounts; out: number[]; kernels: number }> {
      const attention = DcpAttention.open({
        backend,
        mergeBackend,
        heap,
        dcpGroup: world,
        layers: 1,
        queryHeads: HEADS,
        kvHeads: KV_HEADS,
        headDim: HEAD_DIM,
        kvDtype: "f32",
        blockSize: 16,
        numBlocks: 8,
        combine,
      });
      const sequence = attention.createSequence();
      const [query, key, value, out] = [
        tensor(HEADS / world.size),
        tensor(KV_HEADS),
        tensor(KV_HEADS),
        tensor(HEADS / world.size),
      ];
      const run = async (): Promise<void> => {
        attention.beginStep([{ sequence, tokens: 1 }]);
        await attention.forward(0, query, key, value, out);
        attention.endStep();
      };
      for (let step = 0; step < WARM_UP_STEPS; step++) await run();
      const compiled = backend.context.entries.length;
      const counts = await countCalls(run);
      const result = { counts, out: [...out.f32], kernels: backend.context.entries.length - compiled };
      attention.close();
      for (const used of [query, key, value, out]) used.free();
      return result;
    },
  };
}
