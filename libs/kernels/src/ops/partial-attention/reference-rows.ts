import { expectHeapTensor } from "../../operand.ts";
import type { AttentionInputPlan, AttentionInputs } from "./attention-inputs.ts";

/** What a query token and a head see, in float64. */
export interface ReferenceRow {
  readonly token: number;
  readonly head: number;
  /** Scores of the keys that it sees, in units of 1, by local index. */
  readonly scores: readonly number[];
  /** What the elements of the value of the index-th of these keys are worth. */
  value(index: number): readonly number[];
  /** -inf for none. */
  readonly sink: number;
}

/** Every row of attention, head by head of token by token. */
export function* referenceRows(name: string, args: AttentionInputs, plan: AttentionInputPlan): Generator<ReferenceRow> {
  const { tokens, queryHeads, kvHeads, keyDim, valueDim, blockSize, headGroup, scale, softcap } = plan;
  const { sinks, keyScales, valueScales } = plan;
  const query = expectHeapTensor(name, "query", args.query).toNumbers();
  const keys = expectHeapTensor(name, "keyCache", args.keyCache).toNumbers();
  const values = expectHeapTensor(name, "valueCache", args.valueCache).toNumbers();
  const [keyRowScales, valueRowScales] = (["keyScaleCache", "valueScaleCache"] as const).map((argument) => {
    const scales = args[argument];
    return scales === undefined ? undefined : expectHeapTensor(name, argument, scales).toNumbers();
  });
  const { rowStride, columnStride, elements: blocks } = plan.table;
  for (let token = 0; token < tokens; token++) {
    const [start, end] = [plan.starts[token] ?? 0, plan.ends[token] ?? 0];
    const sequence = plan.sequences[token] ?? 0;
    for (let head = 0; head < queryHeads; head++) {
      const queryAt = (token * queryHeads + head) * keyDim;
      const kvHead = Math.floor((head + headGroup.offset) / headGroup.size);
      /** Row of the caches of each key. */
      const rows: number[] = [];
      for (let local = start; local < end; local++) {
        const block = blocks[sequence * rowStride + Math.floor(local / blockSize) * columnStride] ?? 0;
        rows.push((block * blockSize + (local % blockSize)) * kvHeads + kvHead);
      }
      const scores = rows.map((row) => {
        let dot = 0;
        for (let dim = 0; dim < keyDim; dim++) dot += (query[queryAt + dim] ?? 0) * (keys[row * keyDim + dim] ?? 0);
        const scaled = dot * scale * (keyRowScales?.[row] ?? keyScales?.[kvHead] ?? 1);
        return softcap === 0 ? scaled : softcap * Math.tanh(scaled / softcap);
      });
      const value = (index: number): number[] => {
        const row = rows[index] ?? 0;
        const worth = valueRowScales?.[row] ?? valueScales?.[kvHead] ?? 1;
        return Array.from(values.subarray(row * valueDim, (row + 1) * valueDim), (element) => element * worth);
      };
      const sink = end < 0 ? Number.NEGATIVE_INFINITY : (sinks?.[head] ?? Number.NEGATIVE_INFINITY);
      yield { token, head, scores, value, sink };
    }
  }
}
