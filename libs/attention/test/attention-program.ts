// The rank's side of the multi-rank attention tests: replays a list of steps over tensors in the host's heap.
import { DcpAttention, type DcpAttentionOptions } from "@lockstep/attention";
import { headRange, type RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { type DType, Tensor, type TensorDescriptor } from "@lockstep/tensor";
import { openTestBackend, operandHeap, type TestBackend } from "./test-backend.ts";

/** New tokens of each sequence, step by step; every new token also attends. */
export type Steps = readonly (readonly number[])[];

/** Options of DcpAttention that can be sent to a rank. */
export type SentOptions = Partial<
  Omit<DcpAttentionOptions, "backend" | "mergeBackend" | "heap" | "sinks" | `${string}Group`>
>;

/** One replay. Rows of the tensors follow the steps, within a step the sequences. */
export interface Replay {
  readonly steps: Steps;
  /** So many steps at the start only store. Default 0. */
  readonly fills?: number;
  readonly query: TensorDescriptor;
  readonly key: TensorDescriptor;
  /** Left out for MLA. */
  readonly value?: TensorDescriptor;
  readonly out: TensorDescriptor;
  readonly lse: TensorDescriptor;
  readonly kvDtype: DType;
  readonly blockSize: number;
  readonly options: SentOptions;
  /** [1, queryHeads] */
  readonly sinks?: TensorDescriptor;
}

/** Tokens of a round of all ranks' turns, in interleaves. */
export function tokensOfTurns({ weights }: Pick<DcpAttentionOptions, "weights">, { size }: { size: number }): number {
  return weights === undefined ? size : weights.reduce((sum, weight) => sum + weight, 0);
}

/** Called by the world on every rank. */
export async function setup(context: RankContext, options: { backend: TestBackend }) {
  const { heap, world } = context;
  const backend = await openTestBackend(context, options.backend);
  const mergeBackend = backend.name === "webgpu" ? await openBackend("wasm", { heap }) : backend;
  context.onClose(() => mergeBackend.close());
  const operands = operandHeap(context, options.backend);
  /** A tensor where this rank keeps its operands: itself, or a copy. */
  const placed = (source: Tensor): Tensor => (operands === heap ? source : source.clone(operands));

  return {
    async replay(replay: Replay): Promise<{ tokensHeld: number; bytesHeld: number }> {
      const tensor = (descriptor: TensorDescriptor): Tensor => Tensor.fromDescriptor(descriptor, heap);
      const [query, key, out, lse] = [tensor(replay.query), tensor(replay.key), tensor(replay.out), tensor(replay.lse)];
      const value = replay.value === undefined ? undefined : tensor(replay.value);
      const sinks = replay.sinks === undefined ? undefined : tensor(replay.sinks);
      const { steps, kvDtype, blockSize, options } = replay;
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
        valueDim: out.dim(2),
        kvDtype,
        blockSize,
        numBlocks: Math.ceil(key.dim(0) / (blockSize * tokensOfTurns(options, world))) + sequences,
        maxStepQueries: key.dim(0) + 1,
        ...options,
        ...(sinks === undefined ? {} : { sinks }),
      });
      try {
        const ids = Array.from({ length: sequences }, () => attention.createSequence());
        const { start, end } = headRange(query.dim(1), world.rank, world.size);
        let row = 0;
        for (const [at, step] of steps.entries()) {
          const isFill = at < (replay.fills ?? 0);
          const queries = isFill ? { queries: 0 } : {};
          attention.beginStep(step.map((tokens, index) => ({ sequence: ids[index] ?? -1, tokens, ...queries })));
          const rows = step.reduce((sum, tokens) => sum + tokens, 0);
          const take = (source: Tensor): Tensor => source.slice(0, row, row + rows);
          const mine = (source: Tensor): Tensor => take(source).slice(1, start, end);
          const [k, v] = [placed(take(key)), value === undefined ? undefined : placed(take(value))];
          await attention.write(0, k, v);
          const asked = placed(options.queryReplicated === true ? take(query) : mine(query));
          const [o, l] = [placed(mine(out)), placed(mine(lse))];
          if (!isFill) await attention.attend(0, asked, o, l);
          attention.endStep();
          if (operands !== heap) {
            mine(out).copyFrom(o);
            mine(lse).copyFrom(l);
            for (const copy of [k, v, asked, o, l]) copy?.free();
          }
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
