// What each rank of a world does for the attention cases: stores its share of the keys and attends for all heads.
import { type Combine, DcpAttention, type KvScales } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import { type BackendName, type LseBase, openBackend } from "@lockstep/kernels";
import { type DType, Tensor, type TensorDescriptor } from "@lockstep/tensor";

/** Options of the program. */
export interface AttentionProgramOptions {
  readonly backend: BackendName;
  readonly adapter: "hardware" | "software" | "any";
}

/** One attention case, its tensors in the host's heap. */
export interface AttentionRun {
  /** [sum(queries), Hq, Dk]: query tokens of each sequence, at its last positions. */
  readonly query: TensorDescriptor;
  /** [sum(lengths), Hkv, Dk] and [sum(lengths), Hkv, Dv], sequences one after another; no values for MLA. */
  readonly key: TensorDescriptor;
  readonly value?: TensorDescriptor;
  readonly lengths: readonly number[];
  /** Query tokens of each sequence. */
  readonly queries: readonly number[];
  /** Of the cache. */
  readonly kvDtype: DType;
  readonly kvScales?: KvScales;
  /** Queries are gathered in f8e4m3, divided by it. */
  readonly queryScale?: number;
  /** [1, Hq] */
  readonly sinks?: TensorDescriptor;
  readonly lseBase: LseBase;
  readonly scale: number;
  readonly softcap?: number;
  readonly window?: number;
  readonly interleave: number;
  /** Shares of the ranks. Left out: equal ones. */
  readonly weights?: readonly number[];
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
      const tensor = (descriptor: TensorDescriptor): Tensor => Tensor.fromDescriptor(descriptor, heap);
      const [query, key, out, lse] = [tensor(run.query), tensor(run.key), tensor(run.out), tensor(run.lse)];
      const value = run.value === undefined ? undefined : tensor(run.value);
      const shares = run.weights?.reduce((sum, weight) => sum + weight, 0) ?? world.size;
      const virtualBlock = run.blockSize * shares;
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
        valueDim: out.dim(2),
        mla: value === undefined,
        kvDtype: run.kvDtype,
        ...(run.kvScales === undefined ? {} : { kvScales: run.kvScales }),
        queryDtype: query.dtype,
        ...(run.queryScale === undefined ? {} : { gatherDtype: "f8e4m3", queryScale: run.queryScale }),
        ...(run.sinks === undefined ? {} : { sinks: tensor(run.sinks) }),
        lseBase: run.lseBase,
        blockSize: run.blockSize,
        interleave: run.interleave,
        ...(run.weights === undefined ? {} : { weights: run.weights }),
        numBlocks: blocks + 1,
        combine: run.combine,
        scale: run.scale,
        ...(run.softcap === undefined ? {} : { softcap: run.softcap }),
        ...(run.window === undefined ? {} : { window: run.window }),
        maxStepQueries: Math.max(1, query.dim(0)),
      });
      try {
        await poison(attention, value !== undefined);
        attention.beginStep(
          run.lengths.map((tokens, index) => {
            return { sequence: attention.createSequence(), tokens, queries: run.queries[index] ?? 1 };
          }),
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

  /** Fills the caches with NaN (-128 in i8): whatever is read beyond what was stored shows. */
  async function poison(attention: DcpAttention, hasValues: boolean): Promise<void> {
    for (const cache of [attention.keyCache(0), ...(hasValues ? [attention.valueCache(0)] : [])]) {
      const poisoned = Tensor.empty(heap, cache.dtype, cache.shape).fill(cache.dtype === "i8" ? -128 : Number.NaN);
      await backend.upload(poisoned, cache);
      poisoned.free();
    }
  }
}
