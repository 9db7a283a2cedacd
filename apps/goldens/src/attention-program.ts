// What each rank of a world does for the attention cases: stores its share of the keys and attends for all heads.
import { type Combine, DcpAttention } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import { type BackendName, openBackend } from "@lockstep/kernels";
import { type DType, Tensor, type TensorDescriptor } from "@lockstep/tensor";

/** Options of the program. */
export interface AttentionProgramOptions {
  readonly backend: BackendName;
  readonly adapter: "hardware" | "software" | "any";
}

/** One attention case, its tensors in the host's heap. */
export interface AttentionRun {
  /** [B, Hq, Dk]: one query token per sequence, at its last position. */
  readonly query: TensorDescriptor;
  /** [sum(lengths), Hkv, Dk] and [sum(lengths), Hkv, Dv], sequences one after another. */
  readonly key: TensorDescriptor;
  readonly value: TensorDescriptor;
  readonly lengths: readonly number[];
  readonly scale: number;
  readonly softcap?: number;
  readonly window?: number;
  readonly interleave: number;
  readonly blockSize: number;
  readonly combine: Combine;
  /** Where the result goes: [B, Hq, Dv] and [B, Hq], f32; every rank writes its own heads. */
  readonly out: TensorDescriptor;
  readonly lse: TensorDescriptor;
}

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: AttentionProgramOptions) {
  const { heap, world } = context;
  const backend = await openBackend(options.backend, { heap, adapter: options.adapter });
  const mergeBackend = backend.name === "webgpu" ? await openBackend("wasm", { heap }) : backend;
  context.onClose(async () => {
    await backend.close();
    await mergeBackend.close();
  });

  return {
    device: (): string => backend.device,

    async run(run: AttentionRun): Promise<void> {
      const [query, key, value, out, lse] = [run.query, run.key, run.value, run.out, run.lse].map((descriptor) =>
        Tensor.fromDescriptor(descriptor, heap),
      ) as [Tensor, Tensor, Tensor, Tensor, Tensor];
      const virtualBlock = run.blockSize * world.size;
      const blocks = run.lengths.reduce((sum, length) => sum + Math.ceil(length / virtualBlock), 0);
      const attention = DcpAttention.open({
        backend,
        mergeBackend,
        heap,
        dcpGroup: world,
        layers: 1,
        queryHeads: query.dim(1),
        kvHeads: key.dim(1),
        headDim: query.dim(2),
        valueDim: value.dim(2),
        kvDtype: key.dtype,
        queryDtype: query.dtype,
        blockSize: run.blockSize,
        interleave: run.interleave,
        numBlocks: blocks + 1,
        combine: run.combine,
        scale: run.scale,
        ...(run.softcap === undefined ? {} : { softcap: run.softcap }),
        ...(run.window === undefined ? {} : { window: run.window }),
        maxStepQueries: Math.max(1, query.dim(0)),
      });
      try {
        await poison(attention, key.dtype, blocks + 1, run.blockSize, [key, value]);
        attention.beginStep(
          run.lengths.map((length) => ({ sequence: attention.createSequence(), tokens: length, queries: 1 })),
        );
        await attention.write(0, key, value);
        const { start, end } = headRange(query.dim(1), world.rank, world.size);
        await attention.attend(0, query.slice(1, start, end), out.slice(1, start, end), lse.slice(1, start, end));
        attention.endStep();
      } finally {
        attention.close();
      }
    },
  };

  /** Fills the caches with NaN: whatever is read beyond what was stored shows. */
  async function poison(
    attention: DcpAttention,
    dtype: DType,
    blocks: number,
    blockSize: number,
    [key, value]: readonly [Tensor, Tensor],
  ): Promise<void> {
    const sides = [
      [attention.keyCache(0), key],
      [attention.valueCache(0), value],
    ] as const;
    for (const [cache, { shape }] of sides) {
      const poisoned = Tensor.empty(heap, dtype, [blocks, blockSize, ...shape.slice(1)]).fill(Number.NaN);
      await backend.upload(poisoned, cache);
      poisoned.free();
    }
  }
}
