// The rank's side of the multi-rank attention tests: replays a list of steps over tensors in the host's heap.
import { type Combine, DcpAttention } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import { type BackendName, openBackend } from "@lockstep/kernels";
import { type DType, Tensor, type TensorDescriptor } from "@lockstep/tensor";

/** New tokens of each sequence, step by step; every new token also attends. */
export type Steps = readonly (readonly number[])[];

/** One replay. Rows of the tensors follow the steps, within a step the sequences. */
export interface Replay {
  readonly steps: Steps;
  readonly query: TensorDescriptor;
  readonly key: TensorDescriptor;
  readonly value: TensorDescriptor;
  readonly out: TensorDescriptor;
  readonly lse: TensorDescriptor;
  readonly kvDtype: DType;
  readonly blockSize: number;
  readonly interleave: number;
  readonly combine: Combine;
  readonly softcap?: number;
  readonly window?: number;
}

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: { backend: BackendName }) {
  const { heap, world } = context;
  const backend = await openBackend(options.backend, { heap, adapter: "software" });
  const mergeBackend = backend.name === "webgpu" ? await openBackend("wasm", { heap }) : backend;
  context.onClose(async () => {
    await backend.close();
    await mergeBackend.close();
  });

  return {
    async replay(replay: Replay): Promise<{ tokensHeld: number; bytesHeld: number }> {
      const tensor = (descriptor: TensorDescriptor): Tensor => Tensor.fromDescriptor(descriptor, heap);
      const [query, key, value, out, lse] = [
        tensor(replay.query),
        tensor(replay.key),
        tensor(replay.value),
        tensor(replay.out),
        tensor(replay.lse),
      ];
      const { steps, kvDtype, blockSize, interleave, combine, softcap, window } = replay;
      const sequences = steps[0]?.length ?? 0;
      const attention = DcpAttention.open({
        backend,
        mergeBackend,
        heap,
        dcpGroup: world,
        layers: 1,
        queryHeads: query.dim(1),
        kvHeads: key.dim(1),
        headDim: key.dim(2),
        valueDim: value.dim(2),
        kvDtype,
        blockSize,
        interleave,
        combine,
        numBlocks: Math.ceil(key.dim(0) / (blockSize * world.size)) + sequences,
        maxStepQueries: key.dim(0) + 1,
        ...(softcap === undefined ? {} : { softcap }),
        ...(window === undefined ? {} : { window }),
      });
      try {
        const ids = Array.from({ length: sequences }, () => attention.createSequence());
        const { start, end } = headRange(query.dim(1), world.rank, world.size);
        let row = 0;
        for (const step of steps) {
          attention.beginStep(step.map((tokens, index) => ({ sequence: ids[index] ?? -1, tokens })));
          const rows = step.reduce((sum, tokens) => sum + tokens, 0);
          const take = (source: Tensor): Tensor => source.slice(0, row, row + rows);
          const mine = (source: Tensor): Tensor => take(source).slice(1, start, end);
          await attention.write(0, take(key), take(value));
          await attention.attend(0, mine(query), mine(out), mine(lse));
          attention.endStep();
          row += rows;
        }
        const { tokensHeld, bytesHeld } = attention.metrics;
        return { tokensHeld, bytesHeld };
      } finally {
        attention.close();
      }
    },
  };
}
