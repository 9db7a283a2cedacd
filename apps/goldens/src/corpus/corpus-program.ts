// What each rank of a world does for the ops of the corpus that ranks do together.
import {
  type Combine,
  DcpAttention,
  type DcpAttentionOptions,
  dcpPrepareQuery,
  dcpReduceOutput,
  type HeadLayoutOptions,
  headLayout,
} from "@lockstep/attention";
import { headRange, type ParallelSizes, type RankContext } from "@lockstep/dist-groups";
import { type LseBase, type NonFinite, openBackend } from "@lockstep/kernels";
import { Tensor, type TensorDescriptor } from "@lockstep/tensor";
import type { AttentionProgramOptions } from "../attention-program.ts";

/** A query gather; tensors lie in the host's heap. */
export interface GatherRun {
  /** [B, H, D]: each rank brings its chunk of the heads. */
  readonly query: TensorDescriptor;
  /** [ranks, B, H, D] */
  readonly gathered: TensorDescriptor;
}

/** A reduction. */
export interface ReduceRun {
  /** [ranks, B, H, D] and [ranks, B, H]: each rank's part. */
  readonly outs: TensorDescriptor;
  readonly lses: TensorDescriptor;
  readonly combine: Combine;
  readonly base: LseBase;
  readonly nonFinite: NonFinite;
  /** [B, H, D] and [B, H]: each rank writes its own heads. */
  readonly out: TensorDescriptor;
  readonly lse: TensorDescriptor;
}

/** A step of decoding. */
export interface StepRun {
  /** [T, Hq, Dk] */
  readonly query: TensorDescriptor;
  /** [sum of lengths, Hkv, D]; no values for MLA. */
  readonly key: TensorDescriptor;
  readonly value?: TensorDescriptor;
  /** [1, Hq] */
  readonly sinks?: TensorDescriptor;
  readonly lengths: readonly number[];
  readonly queries: readonly number[];
  readonly sizes: ParallelSizes;
  readonly kv: HeadLayoutOptions["kv"];
  readonly blockSize: number;
  readonly numBlocks: number;
  readonly options: Partial<
    Pick<DcpAttentionOptions, "interleave" | "weights" | "window" | "softcap" | "scale" | "combine">
  >;
  /** [ranks, T, Hq, Dv] and [ranks, T, Hq], f32: each rank writes its own heads into its own part. */
  readonly out: TensorDescriptor;
  readonly lse: TensorDescriptor;
}

/** Called by the world on every rank. Groups: kv, query. */
export async function setup(context: RankContext, options: AttentionProgramOptions) {
  const { heap, rank, world } = context;
  const backend = await openBackend(options.backend, { heap, adapter: options.adapter });
  const mergeBackend = backend.name === "webgpu" ? await openBackend("wasm", { heap }) : backend;
  context.onClose(async () => {
    await backend.close();
    if (mergeBackend !== backend) await mergeBackend.close();
  });
  const tensor = (descriptor: TensorDescriptor): Tensor => Tensor.fromDescriptor(descriptor, heap);

  return {
    gather(run: GatherRun): void {
      const query = tensor(run.query);
      const heads = query.dim(1);
      const { start, end } = headRange(heads, world.rank, world.size);
      const out = tensor(run.gathered).select(0, rank);
      dcpPrepareQuery(query.slice(1, start, end), world, { heads, out });
    },

    async reduce(run: ReduceRun): Promise<void> {
      const { start, end } = headRange(tensor(run.outs).dim(2), world.rank, world.size);
      // Some ways overwrite it.
      const partialOut = tensor(run.outs).select(0, rank).clone(heap);
      try {
        await dcpReduceOutput({
          backend,
          dcpGroup: world,
          partialOut,
          partialLse: tensor(run.lses).select(0, rank),
          combine: run.combine,
          base: run.base,
          nonFinite: run.nonFinite,
          out: tensor(run.out).slice(1, start, end),
          lse: tensor(run.lse).slice(1, start, end),
        });
      } finally {
        partialOut.free();
      }
    },

    async step(run: StepRun): Promise<void> {
      const [query, key] = [tensor(run.query), tensor(run.key)];
      const value = run.value === undefined ? undefined : tensor(run.value);
      const [out, lse] = [tensor(run.out).select(0, rank), tensor(run.lse).select(0, rank)];
      const heads = { queryHeads: query.dim(1), kvHeads: key.dim(1) };
      const layout = headLayout({ sizes: run.sizes, kv: run.kv, ...heads }, rank);
      const { ownQueryHeads: own, groupQueryHeads: group, kvHeads: stored, headGroup } = layout;
      const attention = DcpAttention.open({
        backend,
        mergeBackend,
        heap,
        dcpGroup: context.group("kv"),
        queryGroup: context.group("query"),
        layers: 1,
        queryHeads: group.count,
        kvHeads: stored.count,
        headDim: key.dim(2),
        valueDim: out.dim(2),
        mla: value === undefined,
        headGroup,
        kvDtype: key.dtype,
        queryDtype: query.dtype,
        blockSize: run.blockSize,
        numBlocks: run.numBlocks,
        maxStepQueries: Math.max(1, query.dim(0)),
        ...(run.sinks === undefined ? {} : { sinks: tensor(run.sinks).slice(1, group.start, group.end) }),
        ...run.options,
      });
      try {
        await poison(attention, value !== undefined);
        attention.beginStep(
          run.lengths.map((tokens, index) => {
            return { sequence: attention.createSequence(), tokens, queries: run.queries[index] ?? 1 };
          }),
        );
        const storedHeads = (source: Tensor): Tensor => source.slice(1, stored.start, stored.end);
        await attention.write(0, storedHeads(key), value === undefined ? undefined : storedHeads(value));
        const mine = (of: Tensor): Tensor => of.slice(1, own.start, own.end);
        await attention.attend(0, mine(query), mine(out), mine(lse));
        attention.endStep();
      } finally {
        attention.close();
      }
    },
  };

  /** Fills the caches with NaN: whatever is read beyond what was stored shows. */
  async function poison(attention: DcpAttention, hasValues: boolean): Promise<void> {
    for (const cache of [attention.keyCache(0), ...(hasValues ? [attention.valueCache(0)] : [])]) {
      const poisoned = Tensor.empty(heap, cache.dtype, cache.shape).fill(Number.NaN);
      await backend.upload(poisoned, cache);
      poisoned.free();
    }
  }
}
