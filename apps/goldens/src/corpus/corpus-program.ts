// What each rank of a world does for the ops of the corpus that ranks do together.
import { type Combine, dcpPrepareQuery, dcpReduceOutput } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import { type LseBase, type NonFinite, openBackend } from "@lockstep/kernels";
import { Tensor, type TensorDescriptor } from "@lockstep/tensor";
import type { AttentionProgramOptions } from "../attention-program.ts";
import { decode, type PrefillRun, prefill, type RankParts, type StepRun } from "./rank-steps.ts";

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

/** Called by the world on every rank. Groups: kv, query, pcp. */
export async function setup(context: RankContext, options: AttentionProgramOptions) {
  const { heap, rank, world } = context;
  const backend = await openBackend(options.backend, { heap, adapter: options.adapter });
  const mergeBackend = backend.name === "webgpu" ? await openBackend("wasm", { heap }) : backend;
  context.onClose(async () => {
    await backend.close();
    if (mergeBackend !== backend) await mergeBackend.close();
  });
  const tensor = (descriptor: TensorDescriptor): Tensor => Tensor.fromDescriptor(descriptor, heap);
  const own: RankParts = { context, backend, mergeBackend };

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

    step: (run: StepRun): Promise<void> => decode(own, run),

    prefill: (run: PrefillRun): Promise<number[]> => prefill(own, run),
  };
}
