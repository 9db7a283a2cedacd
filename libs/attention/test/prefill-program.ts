// The rank's side of the prefill tests: prompts by prefill, then a step of decoding, in any parallel layout.
import { DcpAttention, type DcpAttentionOptions, type HeadLayoutOptions, headLayout } from "@lockstep/attention";
import type { ParallelSizes, RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { type DType, Tensor, type TensorDescriptor } from "@lockstep/tensor";
import { tokensOfTurns } from "./attention-program.ts";
import { openTestBackend, operandHeap, type TestBackend } from "./test-backend.ts";

/**
 * Prompts in one or more prefill steps, then decode steps; rows of the tensors follow the steps, in them the sequences.
 */
export interface PrefillRun {
  /** New tokens of each sequence, step by step; the first `prefills` steps are prefills. */
  readonly steps: readonly (readonly number[])[];
  readonly prefills: number;
  /** [rows, H, Dk] and so on, all heads. */
  readonly query: TensorDescriptor;
  readonly key: TensorDescriptor;
  readonly value?: TensorDescriptor;
  readonly out: TensorDescriptor;
  readonly lse: TensorDescriptor;
  /** [1, H] */
  readonly sinks?: TensorDescriptor;
  readonly kvDtype: DType;
  readonly blockSize: number;
  readonly prefillChunk: number;
  readonly sizes: ParallelSizes;
  readonly kv: HeadLayoutOptions["kv"];
  readonly options: Partial<
    Pick<
      DcpAttentionOptions,
      "interleave" | "weights" | "window" | "softcap" | "scale" | "mla" | "kvScales" | "deterministic"
    >
  >;
}

/** Called by the world on every rank. Groups: kv, query, pcp. */
export async function setup(context: RankContext, options: { backend: TestBackend }) {
  const { heap, rank } = context;
  const backend = await openTestBackend(context, options.backend);
  const mergeBackend = backend.name === "webgpu" ? await openBackend("wasm", { heap }) : backend;
  context.onClose(() => mergeBackend.close());
  const operands = operandHeap(context, options.backend);

  return {
    async run(run: PrefillRun): Promise<{ leaked: number; tokensHeld: number }> {
      const used = heap.usedBytes;
      const tensor = (descriptor: TensorDescriptor): Tensor => Tensor.fromDescriptor(descriptor, heap);
      const [query, key, out, lse] = [tensor(run.query), tensor(run.key), tensor(run.out), tensor(run.lse)];
      const value = run.value === undefined ? undefined : tensor(run.value);
      const queryGroup = context.group("query");
      const heads = { queryHeads: query.dim(1), kvHeads: key.dim(1) };
      const layout = headLayout({ sizes: run.sizes, kv: run.kv, ...heads }, rank);
      const { ownQueryHeads: own, groupQueryHeads: group, kvHeads: stored, headGroup } = layout;
      const storedRows = (source: Tensor): Tensor => source.slice(1, stored.start, stored.end);
      const sinks = run.sinks === undefined ? undefined : tensor(run.sinks).slice(1, group.start, group.end);
      const sequences = run.steps[0]?.length ?? 0;
      const attention = DcpAttention.open({
        backend,
        mergeBackend,
        heap,
        dcpGroup: context.group("kv"),
        queryGroup,
        pcpGroup: context.group("pcp"),
        layers: 1,
        queryHeads: group.count,
        kvHeads: stored.count,
        headDim: key.dim(2),
        valueDim: out.dim(2),
        headGroup,
        kvDtype: run.kvDtype,
        blockSize: run.blockSize,
        numBlocks:
          Math.ceil(key.dim(0) / (run.blockSize * tokensOfTurns(run.options, context.group("kv")))) + sequences,
        maxStepQueries: key.dim(0),
        prefillChunk: run.prefillChunk,
        ...run.options,
        ...(sinks === undefined ? {} : { sinks }),
      });
      const ids = Array.from({ length: sequences }, () => attention.createSequence());
      let row = 0;
      for (const [index, step] of run.steps.entries()) {
        const items = step.map((tokens, at) => ({ sequence: ids[at] ?? -1, tokens }));
        const rows = step.reduce((sum, tokens) => sum + tokens, 0);
        if (index < run.prefills) {
          const plan = attention.beginPrefill(items);
          const take = (source: Tensor): Tensor => rowsOf(source, plan.rows, row);
          const [q, k, o, l] = [take(query.slice(1, own.start, own.end)), take(storedRows(key)), take(out), take(lse)];
          const v = value === undefined ? undefined : take(storedRows(value));
          const [ownOut, ownLse] = [o.slice(1, own.start, own.end), l.slice(1, own.start, own.end)];
          await attention.prefill(0, q, k, v, ownOut, ownLse);
          for (const [at, from] of plan.rows.entries()) {
            out
              .select(0, row + from)
              .slice(0, own.start, own.end)
              .copyFrom(ownOut.select(0, at));
            lse
              .select(0, row + from)
              .slice(0, own.start, own.end)
              .copyFrom(ownLse.select(0, at));
          }
          for (const copy of [q, k, o, l, ...(v === undefined ? [] : [v])]) copy.free();
        } else {
          attention.beginStep(items);
          const take = (source: Tensor): Tensor => source.slice(0, row, row + rows);
          const mine = (source: Tensor): Tensor => take(source).slice(1, own.start, own.end);
          await attention.write(0, take(storedRows(key)), value === undefined ? undefined : take(storedRows(value)));
          // Ranks that compute the same heads must not write one place at once.
          const [o, l] = [mine(out).clone(operands), mine(lse).clone(operands)];
          await attention.attend(0, mine(query), o, l);
          context.world.barrier();
          mine(out).copyFrom(o);
          mine(lse).copyFrom(l);
          o.free();
          l.free();
        }
        attention.endStep();
        row += rows;
      }
      const { tokensHeld } = attention.metrics;
      attention.close();
      return { leaked: heap.usedBytes - used, tokensHeld };
    },
  };

  /** Copies of rows `first + rows[i]`. */
  function rowsOf(source: Tensor, rows: Int32Array, first: number): Tensor {
    const copy = Tensor.empty(operands, source.dtype, [rows.length, ...source.shape.slice(1)]);
    for (const [at, from] of rows.entries()) copy.select(0, at).copyFrom(source.select(0, first + from));
    return copy;
  }
}
