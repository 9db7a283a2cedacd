// What a rank does in whole steps of the corpus: decoding, and prefill of chunks over contexts that are stored.
import { DcpAttention, type DcpAttentionOptions, type HeadLayoutOptions, headLayout } from "@lockstep/attention";
import type { HeadRange, ParallelSizes, RankContext } from "@lockstep/dist-groups";
import type { KernelBackend } from "@lockstep/kernels";
import { type DType, Tensor, type TensorDescriptor } from "@lockstep/tensor";

/** What a rank computes with. */
export interface RankParts {
  /** Groups: kv, query, pcp. */
  readonly context: RankContext;
  readonly backend: KernelBackend;
  readonly mergeBackend: KernelBackend;
}

/** A step; tensors lie in the host's heap. */
export interface StepRun {
  /** [T, Hq, Dk] */
  readonly query: TensorDescriptor;
  /** [sum of lengths, Hkv, D]; no values for MLA. */
  readonly key: TensorDescriptor;
  readonly value?: TensorDescriptor;
  /** [1, Hq] */
  readonly sinks?: TensorDescriptor;
  readonly lengths: readonly number[];
  /** Query tokens of each sequence: the last ones of its length. */
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

/** A prefill of the query tokens, after the tokens before them have been stored. */
export interface PrefillRun extends StepRun {
  /** Keys and values come as floats that a cache of this dtype holds exactly, as multiples of its scales. */
  readonly kvDtype: DType;
  /** What a stored 1 is worth, for each KV head. */
  readonly keyScale?: readonly number[];
  readonly valueScale?: readonly number[];
  readonly prefillChunk: number;
}

/** An open attention, and what of a run's tensors concerns this rank. */
interface OpenStep {
  readonly attention: DcpAttention;
  readonly query: Tensor;
  readonly key: Tensor;
  readonly value: Tensor | undefined;
  readonly out: Tensor;
  readonly lse: Tensor;
}

/** Stores all tokens and attends for the query tokens, as decoding does. */
export async function decode(rank: RankParts, run: StepRun): Promise<void> {
  const { attention, query, key, value, out, lse } = await open(rank, run, {});
  try {
    attention.beginStep(
      run.lengths.map((tokens, index) => {
        return { sequence: attention.createSequence(), tokens, queries: run.queries[index] ?? 1 };
      }),
    );
    await attention.write(0, key, value);
    await attention.attend(0, query, out, lse);
    attention.endStep();
  } finally {
    attention.close();
  }
}

/**
 * Stores the tokens before the query tokens, and prefills these. Returns the rows of the step that this rank computed.
 */
export async function prefill(rank: RankParts, run: PrefillRun): Promise<number[]> {
  const { heap } = rank.context;
  const { keyScale, valueScale } = run;
  const { attention, query, key, value, out, lse } = await open(rank, run, {
    pcpGroup: rank.context.group("pcp"),
    prefillChunk: run.prefillChunk,
    kvDtype: run.kvDtype,
    ...(keyScale === undefined ? {} : { kvScales: { key: keyScale, ...(valueScale && { value: valueScale }) } }),
  });
  const copies: Tensor[] = [];
  const take = (source: Tensor, rows: ArrayLike<number>): Tensor => {
    const copy = Tensor.empty(heap, source.dtype, [rows.length, ...source.shape.slice(1)]);
    copies.push(copy);
    for (const [at, row] of Array.from(rows).entries()) copy.select(0, at).copyFrom(source.select(0, row));
    return copy;
  };
  try {
    const sequences = run.lengths.map(() => attention.createSequence());
    const { before, chunks } = rowsOf(run);
    const items = run.lengths.map((length, index) => {
      return { sequence: sequences[index] ?? -1, tokens: length - (run.queries[index] ?? 0), queries: 0 };
    });
    attention.beginStep(items);
    await attention.write(0, take(key, before), value === undefined ? undefined : take(value, before));
    attention.endStep();

    const plan = attention.beginPrefill(
      run.queries.map((tokens, index) => ({ sequence: sequences[index] ?? -1, tokens })),
    );
    const rows = Array.from(plan.rows);
    const stored = rows.map((row) => chunks[row] ?? -1);
    const [q, k, o, l] = [take(query, rows), take(key, stored), take(out, rows), take(lse, rows)];
    await attention.prefill(0, q, k, value === undefined ? undefined : take(value, stored), o, l);
    attention.endStep();
    for (const [at, row] of rows.entries()) {
      out.select(0, row).copyFrom(o.select(0, at));
      lse.select(0, row).copyFrom(l.select(0, at));
    }
    return rows;
  } finally {
    for (const copy of copies) copy.free();
    attention.close();
  }
}

/** Rows of the keys that are stored before the query tokens, and those of the query tokens. */
function rowsOf({ lengths, queries }: StepRun): { before: number[]; chunks: number[] } {
  const [before, chunks]: [number[], number[]] = [[], []];
  let row = 0;
  for (const [sequence, length] of lengths.entries()) {
    const context = length - (queries[sequence] ?? 0);
    for (let position = 0; position < length; position++, row++) (position < context ? before : chunks).push(row);
  }
  return { before, chunks };
}

/** Opens attention over caches that hold NaN: whatever is read beyond what was stored shows. */
async function open(
  { context, backend, mergeBackend }: RankParts,
  run: StepRun,
  more: Partial<DcpAttentionOptions>,
): Promise<OpenStep> {
  const { heap, rank } = context;
  const tensor = (descriptor: TensorDescriptor): Tensor => Tensor.fromDescriptor(descriptor, heap);
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
    ...more,
  });
  try {
    await poison(attention, heap, backend, value !== undefined);
  } catch (error) {
    attention.close();
    throw error;
  }
  const part = (of: Tensor, { start, end }: HeadRange): Tensor => of.slice(1, start, end);
  return {
    attention,
    query: part(query, own),
    key: part(key, stored),
    value: value === undefined ? undefined : part(value, stored),
    out: part(out, own),
    lse: part(lse, own),
  };
}

/** Fills the caches with NaN, those of int8 with -128. */
async function poison(
  attention: DcpAttention,
  heap: RankContext["heap"],
  backend: KernelBackend,
  hasValues: boolean,
): Promise<void> {
  for (const cache of [attention.keyCache(0), ...(hasValues ? [attention.valueCache(0)] : [])]) {
    const poisoned = Tensor.empty(heap, cache.dtype, cache.shape).fill(cache.dtype === "i8" ? -128 : Number.NaN);
    await backend.upload(poisoned, cache);
    poisoned.free();
  }
}
