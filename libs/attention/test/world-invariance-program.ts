// The rank's side of the tests of world-invariant attention: the same sequences in any layout, pages and steps.
import { DcpAttention, type DcpAttentionOptions, type HeadLayout, headLayout } from "@lockstep/attention";
import { headRange, type ParallelSizes, type RankContext } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { type DType, Tensor, type TensorDescriptor } from "@lockstep/tensor";
import { RandomStream } from "../../../tests/random.ts";
import { tokensOfTurns } from "./attention-program.ts";
import { openTestBackend, operandHeap, type TestBackend } from "./test-backend.ts";

/** Whole sequences, one after another: rows of tensors in the host's heap, of all heads. */
export interface InvariantSequences {
  readonly lengths: readonly number[];
  /** [rows, H, Dk] and so on. */
  readonly query: TensorDescriptor;
  readonly key: TensorDescriptor;
  readonly value?: TensorDescriptor;
  readonly out: TensorDescriptor;
  readonly lse: TensorDescriptor;
  /** [1, H] */
  readonly sinks?: TensorDescriptor;
  readonly kvDtype: DType;
  /** Of queries and results. */
  readonly queryDtype: DType;
  /** What decides the numbers, wherever they are computed. */
  readonly options: Partial<Pick<DcpAttentionOptions, "window" | "softcap" | "scale" | "mla" | "kvScales">>;
}

/** How a world goes through the sequences: none of it may show in a bit. */
export interface InvariantRun {
  /** undefined: all heads' queries are gathered over the group "query", and every rank stores all KV heads. */
  readonly sizes?: ParallelSizes;
  readonly kv: "head-sharded" | "replicated";
  /** New tokens of each sequence, step by step. */
  readonly steps: readonly { readonly isPrefill: boolean; readonly tokens: readonly number[] }[];
  readonly blockSize: number;
  readonly interleave: number;
  readonly weights?: readonly number[];
  readonly prefillChunk: number;
  readonly combine: "auto" | "a2a" | "ag-rs";
  readonly queryReplicated: boolean;
  /** Decides in which order pages are handed out. */
  readonly pages: number;
}

/** Called by the world on every rank. Groups: kv, query, pcp. */
export async function setup(context: RankContext, options: { backend: TestBackend }) {
  const { heap, rank } = context;
  const backend = await openTestBackend(context, options.backend);
  const mergeBackend = backend.name === "webgpu" ? await openBackend("wasm", { heap }) : backend;
  context.onClose(() => mergeBackend.close());
  const operands = operandHeap(context, options.backend);

  return {
    /** Fills `out` and `lse` of the sequences with what this rank's heads found; returns what stayed allocated. */
    async run(sequences: InvariantSequences, run: InvariantRun): Promise<number> {
      const used = heap.usedBytes;
      const { steps, pages, kv: _, sizes: __, ...layoutOptions } = run;
      const tensor = (descriptor: TensorDescriptor): Tensor => Tensor.fromDescriptor(descriptor, heap);
      const [key, out, lse] = [tensor(sequences.key), tensor(sequences.out), tensor(sequences.lse)];
      const value = sequences.value === undefined ? undefined : tensor(sequences.value);
      const query = tensor(sequences.query);
      const [dcpGroup, queryGroup] = [context.group("kv"), context.group("query")];
      const { ownQueryHeads: own, groupQueryHeads: group, kvHeads: stored, headGroup } = headsOf(run, query, key);
      const sinks = sequences.sinks === undefined ? undefined : tensor(sequences.sinks);
      const blockTokens = run.blockSize * tokensOfTurns(run, dcpGroup);
      const blocks = sequences.lengths.reduce((sum, length) => sum + Math.ceil(length / blockTokens), 0);
      const attention = DcpAttention.open({
        backend,
        mergeBackend,
        heap,
        dcpGroup,
        queryGroup,
        pcpGroup: context.group("pcp"),
        layers: 1,
        queryHeads: group.count,
        kvHeads: stored.count,
        headDim: key.dim(2),
        valueDim: out.dim(2),
        headGroup,
        kvDtype: sequences.kvDtype,
        queryDtype: sequences.queryDtype,
        numBlocks: blocks + 8,
        maxStepQueries: key.dim(0),
        deterministic: "world-invariant",
        ...layoutOptions,
        ...sequences.options,
        ...(sinks === undefined ? {} : { sinks: sinks.slice(1, group.start, group.end) }),
      });
      try {
        shufflePages(attention, pages, blocks + 8);
        const ids = sequences.lengths.map(() => attention.createSequence());
        for (const { isPrefill, tokens } of steps) {
          const items = tokens.map((count, at) => ({ sequence: ids[at] ?? -1, tokens: count }));
          const rows = rowsOf(sequences.lengths, ids, tokens, attention);
          const plan = isPrefill ? attention.beginPrefill(items) : attention.beginStep(items);
          const mine = isPrefill && "rows" in plan ? Array.from(plan.rows, (row) => rows[row] ?? 0) : rows;
          const take = (source: Tensor, from: number, to: number, dtype = source.dtype): Tensor => {
            const taken = Tensor.empty(operands, dtype, [mine.length, to - from, source.dim(2)]);
            for (const [at, row] of mine.entries()) {
              taken.select(0, at).copyFrom(source.select(0, row).slice(0, from, to));
            }
            return taken;
          };
          const isReplicated = run.queryReplicated && !isPrefill;
          const asked = isReplicated ? group : own;
          const q = take(query, asked.start, asked.end, sequences.queryDtype);
          const k = take(key, stored.start, stored.end);
          const v = value === undefined ? undefined : take(value, stored.start, stored.end);
          const o = Tensor.empty(operands, sequences.queryDtype, [mine.length, own.count, out.dim(2)]).fill(7);
          const l = Tensor.empty(operands, "f32", [mine.length, own.count]).fill(7);
          if (isPrefill) await attention.prefill(0, q, k, v, o, l);
          else await attention.forward(0, q, k, v, o, l);
          attention.endStep();
          // Ranks that compute the same heads write the same; one of them at a time.
          for (let turn = 0; turn < context.size; turn++) {
            context.world.barrier();
            if (turn !== rank) continue;
            for (const [at, row] of mine.entries()) {
              out.select(0, row).slice(0, own.start, own.end).copyFrom(o.select(0, at));
              lse.select(0, row).slice(0, own.start, own.end).copyFrom(l.select(0, at));
            }
          }
          context.world.barrier();
          for (const copy of [q, k, o, l, ...(v === undefined ? [] : [v])]) copy.free();
        }
      } finally {
        attention.close();
      }
      return heap.usedBytes - used;
    },
  };

  function headsOf({ sizes, kv }: InvariantRun, query: Tensor, key: Tensor): HeadLayout {
    const heads = { queryHeads: query.dim(1), kvHeads: key.dim(1) };
    if (sizes !== undefined) return headLayout({ sizes, kv, ...heads }, rank);
    const { rank: place, size } = context.group("query");
    return {
      ownQueryHeads: headRange(heads.queryHeads, place, size),
      groupQueryHeads: headRange(heads.queryHeads, 0, 1),
      kvHeads: headRange(heads.kvHeads, 0, 1),
      headGroup: { size: heads.queryHeads / heads.kvHeads, offset: 0 },
    };
  }
}

/** Rows of a step's tokens: those of each sequence behind what it has stored. */
function rowsOf(
  lengths: readonly number[],
  ids: readonly number[],
  tokens: readonly number[],
  attention: DcpAttention,
): number[] {
  let first = 0;
  return lengths.flatMap((length, at) => {
    const from = first + attention.sequenceLength(ids[at] ?? -1);
    first += length;
    return Array.from({ length: tokens[at] ?? 0 }, (_, index) => from + index);
  });
}

/** Takes all pages, and gives them back in an order that follows from a seed. */
function shufflePages(attention: DcpAttention, seed: number, blocks: number): void {
  const random = new RandomStream(seed);
  const held: number[] = [];
  for (let block = 0; block < blocks; block++) {
    const sequence = attention.createSequence();
    attention.beginStep([{ sequence, tokens: 1, queries: 0 }]);
    attention.endStep();
    held.push(sequence);
  }
  while (held.length > 0) {
    for (const sequence of held.splice(random.below(held.length), 1)) attention.freeSequence(sequence);
  }
}
