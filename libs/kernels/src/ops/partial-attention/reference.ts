import { expectHeapTensor } from "../../operand.ts";
import { type PartialAttentionArgs, planPartialAttention } from "./index.ts";

/** partialAttention in float64: one query token and head at a time, scores first, then the weighted sum. */
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
  const { table } = plan;
  const out = expectHeapTensor(name, "out", args.out);
  const lse = expectHeapTensor(name, "lse", args.lse);
  const outs = new Float64Array(tokens * queryHeads * valueDim);
  const lses = new Float64Array(tokens * queryHeads).fill(Number.NEGATIVE_INFINITY);

  for (let token = 0; token < tokens; token++) {
    const start = plan.starts[token] ?? 0;
    const end = plan.ends[token] ?? 0;
    const sequence = plan.sequences[token] ?? 0;
    /** Cache row (block, offset within it, KV head) of a local index. */
    const cacheRow = (local: number, kvHead: number): number => {
      const column = Math.floor(local / blockSize);
      const block = table.elements[sequence * table.rowStride + column * table.columnStride] ?? 0;
      return (block * blockSize + (local % blockSize)) * kvHeads + kvHead;
    };
    for (let head = 0; head < queryHeads; head++) {
      const row = token * queryHeads + head;
      const kvHead = Math.floor((head + headGroup.offset) / headGroup.size);
      const scores: number[] = [];
      for (let local = start; local < end; local++) {
        const key = cacheRow(local, kvHead);
        const at = key * keyDim;
        let dot = 0;
        for (let dim = 0; dim < keyDim; dim++) dot += (query[row * keyDim + dim] ?? 0) * (keys[at + dim] ?? 0);
        const scaled = dot * scale * (keyRowScales?.[key] ?? keyScales?.[kvHead] ?? 1);
        scores.push(softcap === 0 ? scaled : softcap * Math.tanh(scaled / softcap));
      }
      const sink = end < 0 ? Number.NEGATIVE_INFINITY : (sinks?.[head] ?? Number.NEGATIVE_INFINITY);
      if (!scores.every(Number.isFinite)) {
        lses[row] = Number.NaN;
        outs.fill(Number.NaN, row * valueDim, (row + 1) * valueDim);
        continue;
      }
      const max = scores.reduce((a, b) => Math.max(a, b), sink);
      if (max === Number.NEGATIVE_INFINITY) continue;
      const sum = scores.reduce((total, score) => total + Math.exp(score - max), Math.exp(sink - max));
      lses[row] = max + Math.log(sum);
      for (const [index, score] of scores.entries()) {
        const value = cacheRow(start + index, kvHead);
        const worth = valueRowScales?.[value] ?? valueScales?.[kvHead] ?? 1;
        const weight = (Math.exp(score - max) / sum) * worth;
        const at = value * valueDim;
        for (let dim = 0; dim < valueDim; dim++) {
          outs[row * valueDim + dim] = (outs[row * valueDim + dim] ?? 0) + weight * (values[at + dim] ?? 0);
        }
      }
    }
  }
  out.set(outs);
  lse.set(lses);
}
