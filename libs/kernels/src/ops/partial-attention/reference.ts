import { expectHeapTensor } from "../../operand.ts";
import { type ContinuedSums, expectSumsWidth } from "./continued-sums.ts";
import { type PartialAttentionArgs, planPartialAttention } from "./index.ts";

/**
 * partialAttention in float64: one query token and head at a time, key by key, relative to the largest score so far.
 */
export function partialAttentionReference(args: PartialAttentionArgs): void {
  const plan = planPartialAttention(args);
  const name = "partialAttention";
  const {
    tokens,
    queryHeads,
    kvHeads,
    keyDim,
    valueDim,
    blockSize,
    headGroup,
    scale,
    softcap,
    sinks,
    keyScales,
    valueScales,
  } = plan;
  const query = expectHeapTensor(name, "query", args.query).toNumbers();
  const keys = expectHeapTensor(name, "keyCache", args.keyCache).toNumbers();
  const values = expectHeapTensor(name, "valueCache", args.valueCache).toNumbers();
  const [keyRowScales, valueRowScales] = (["keyScaleCache", "valueScaleCache"] as const).map((argument) => {
    const scales = args[argument];
    return scales === undefined ? undefined : expectHeapTensor(name, argument, scales).toNumbers();
  });
  const { rowStride, columnStride, elements: blocks } = plan.table;
  const out = expectHeapTensor(name, "out", args.out);
  const lse = expectHeapTensor(name, "lse", args.lse);
  const outs = new Float64Array(tokens * queryHeads * valueDim);
  const lses = new Float64Array(tokens * queryHeads).fill(Number.NEGATIVE_INFINITY);

  const sums = plan.sums === undefined ? undefined : openSums(name, plan.sums, valueDim);

  for (let token = 0; token < tokens; token++) {
    const start = plan.starts[token] ?? 0;
    const end = plan.ends[token] ?? 0;
    const sequence = plan.sequences[token] ?? 0;
    /** Cache row (block, offset within it, KV head) of a local index. */
    const cacheRow = (local: number, kvHead: number): number => {
      const column = Math.floor(local / blockSize);
      const block = blocks[sequence * rowStride + column * columnStride] ?? 0;
      return (block * blockSize + (local % blockSize)) * kvHeads + kvHead;
    };
    for (let head = 0; head < queryHeads; head++) {
      const row = token * queryHeads + head;
      const kvHead = Math.floor((head + headGroup.offset) / headGroup.size);
      const sink = end < 0 ? Number.NEGATIVE_INFINITY : (sinks?.[head] ?? Number.NEGATIVE_INFINITY);
      const before = sums?.isFirst === false ? sums.load(token, head) : undefined;
      const weighted = before?.weighted ?? new Float64Array(valueDim);
      let max = before?.max ?? sink;
      let sum = before?.sum ?? (sink === Number.NEGATIVE_INFINITY ? 0 : 1);
      for (let local = start; local < end; local++) {
        const key = cacheRow(local, kvHead);
        const at = key * keyDim;
        let dot = 0;
        for (let dim = 0; dim < keyDim; dim++) dot += (query[row * keyDim + dim] ?? 0) * (keys[at + dim] ?? 0);
        const scaled = dot * scale * (keyRowScales?.[key] ?? keyScales?.[kvHead] ?? 1);
        const score = softcap === 0 ? scaled : softcap * Math.tanh(scaled / softcap);
        if (!Number.isFinite(score)) {
          sum = Number.NaN;
          continue;
        }
        if (score > max) {
          const rescale = Math.exp(max - score);
          max = score;
          sum *= rescale;
          for (let dim = 0; dim < valueDim; dim++) weighted[dim] = (weighted[dim] ?? 0) * rescale;
        }
        const weight = Math.exp(score - max);
        sum += weight;
        const valueAt = cacheRow(local, kvHead);
        const worth = weight * (valueRowScales?.[valueAt] ?? valueScales?.[kvHead] ?? 1);
        for (let dim = 0; dim < valueDim; dim++) {
          weighted[dim] = (weighted[dim] ?? 0) + worth * (values[valueAt * valueDim + dim] ?? 0);
        }
      }
      if (sums?.isLast === false) {
        sums.store(token, head, { weighted, max, sum });
        continue;
      }
      if (sum === 0) continue;
      lses[row] = max + Math.log(sum);
      for (let dim = 0; dim < valueDim; dim++) outs[row * valueDim + dim] = (weighted[dim] ?? 0) / sum;
    }
  }
  if (sums?.isLast === false) return;
  out.set(outs);
  lse.set(lses);
}

/** A row's weighted values, the largest of its scores, and the sum of its weights relative to that. */
interface RowSums {
  readonly weighted: Float64Array;
  readonly max: number;
  readonly sum: number;
}

/** f32 elements of a row's sums: float64 numbers, by their bits. */
export function referenceSumsWidth(valueDim: number): number {
  return 2 * (valueDim + 2);
}

function openSums(name: string, sums: ContinuedSums, valueDim: number) {
  expectSumsWidth(name, sums, referenceSumsWidth(valueDim));
  const { isFirst, isLast } = sums;
  const state = expectHeapTensor(name, "sums.state", sums.state);
  const elements = new Float32Array(state.heap.buffer, state.byteOffset, state.elements.length);
  const place = (token: number, head: number): Float32Array => {
    const [tokenStride = 0, headStride = 0] = state.strides;
    const at = token * tokenStride + head * headStride;
    return elements.subarray(at, at + referenceSumsWidth(valueDim));
  };
  return {
    isFirst,
    isLast,
    load(token: number, head: number): RowSums {
      const numbers = new Float64Array(place(token, head).slice().buffer);
      const [max = 0, sum = 0] = numbers.subarray(valueDim);
      return { weighted: numbers.slice(0, valueDim), max, sum };
    },
    store(token: number, head: number, { weighted, max, sum }: RowSums): void {
      place(token, head).set(new Float32Array(Float64Array.of(...weighted, max, sum).buffer));
    },
  };
}
