import { DTYPE_BYTES, Tensor } from "@lockstep/tensor";
import type { FloatDType } from "../../libs/kernels/src/webgpu/wgsl-operands.ts";
import { type BenchRow, freeAll, samples } from "./bench-row.ts";
import type { GpuBench } from "./gpu-bench.ts";
import { type RandomValues, randomValue, shuffled } from "./random-values.ts";

/** A decode step: one query token per sequence of `length` keys. */
export interface DecodeShape {
  readonly batch: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly length: number;
  readonly keyDim: number;
  /** Left out: keyDim. Given for MLA: the values are the first columns of the keys. */
  readonly latentValueDim?: number;
  readonly dtype: FloatDType;
  /** Of the query. Default f32. */
  readonly queryDType?: FloatDType;
  /** Left out: a sequence's keys lie in one block. */
  readonly blockSize?: number;
  /** true: by the ops of world-invariant attention, which read keys and values twice. `bytes` counts them once. */
  readonly worldInvariant?: boolean;
}

const queryValues = (shape: DecodeShape): RandomValues => ({ dtype: shape.queryDType ?? "f32", seed: 3, scale: 8 });
/** Multiply-adds of a check in float64 on the CPU. */
const MOST_CHECKED = 1 << 28;

/** Attention of one query token per sequence. */
export function decodeRow(shape: DecodeShape): BenchRow {
  const { batch, queryHeads, kvHeads, length, keyDim, latentValueDim, dtype, blockSize = length } = shape;
  const rowElements = latentValueDim === undefined ? 2 * keyDim : keyDim;
  const valueDim = latentValueDim ?? keyDim;
  const bytes = batch * kvHeads * length * rowElements * DTYPE_BYTES[dtype];
  const latent = latentValueDim === undefined ? "" : `/${valueDim}`;
  const layout = blockSize === length ? "" : ` bs${blockSize}`;
  const queryDType = shape.queryDType === undefined ? "" : ` q ${shape.queryDType}`;
  return {
    op: shape.worldInvariant === true ? "world-invariant-attention" : "partial-attention",
    shape: `B${batch} Hq${queryHeads} Hkv${kvHeads} L${length} D${keyDim}${latent}${layout}${queryDType}`,
    dtype,
    bytes,
    flops: 2 * batch * queryHeads * length * (keyDim + valueDim),
    ceiling: "read",
    prepare: async (bench) => {
      const perSequence = length / blockSize;
      const blocks = batch * perSequence;
      const keys: RandomValues = { dtype, seed: 11, scale: 1 };
      const values: RandomValues = latentValueDim === undefined ? { dtype, seed: 77_777, scale: 1 } : keys;
      const keyCache = await bench.random(keys, [blocks, blockSize, kvHeads, keyDim]);
      const valueCache =
        latentValueDim === undefined
          ? await bench.random(values, [blocks, blockSize, kvHeads, keyDim])
          : keyCache.slice(3, 0, valueDim);
      const query = await bench.random(queryValues(shape), [batch, queryHeads, keyDim]);
      const out = bench.empty("f32", [batch, queryHeads, valueDim]);
      const lse = bench.empty("f32", [batch, queryHeads]);
      const order = shuffled(blocks);
      const blockTable = Tensor.from(bench.heap, "i32", [batch, perSequence], order);
      const sequences = Int32Array.from({ length: batch }, (_, b) => b);
      const positions = new Int32Array(batch).fill(length - 1);
      const inputs = { query, keyCache, valueCache, blockTable, sequences, positions };
      const bounds = bench.empty("f32", [3, batch, queryHeads]);
      const sums = bench.empty("i32", [batch, queryHeads, valueDim + 1, 2]);
      const attendInvariant = (): void => {
        void bench.backend.attentionBounds({ ...inputs, bounds });
        void bench.backend.latticeSums({ ...inputs, bounds, sums });
        void bench.backend.finishLattice({ bounds, sums, out, lse });
      };
      const problem: Problem = { shape, valueDim, blockSize, perSequence, order, keys, values };
      return {
        run: () =>
          shape.worldInvariant === true
            ? bench.backend.batch(attendInvariant)
            : bench.backend.partialAttention({ ...inputs, out, lse }),
        outputs: [out, lse],
        error: async () => {
          const onMatrices = dtype === "f16" && bench.gpu.matrixUnits !== undefined && !shape.worldInvariant;
          const tolerance = TOLERANCE[onMatrices ? "f16" : "f32"];
          const heads = samples(batch * queryHeads, bytes > 1e9 ? 1 : 3);
          let worst = 0;
          for (const row of heads) {
            const expected = attend(problem, Math.floor(row / queryHeads), row % queryHeads);
            worst = Math.max(worst, await rowError(bench, expected, out, lse, row, tolerance));
          }
          return worst;
        },
        free: () => {
          freeAll([keyCache, query, bounds, sums, out, lse, ...(latentValueDim === undefined ? [valueCache] : [])]);
          blockTable.free();
        },
      };
    },
  };
}

interface Problem {
  readonly shape: DecodeShape;
  readonly valueDim: number;
  readonly blockSize: number;
  readonly perSequence: number;
  readonly order: Int32Array;
  readonly keys: RandomValues;
  readonly values: RandomValues;
}

/** One row of the result in float64; undefined when that takes too long. */
function attend(problem: Problem, sequence: number, head: number): { out: Float64Array; lse: number } | undefined {
  const { shape, valueDim, blockSize, perSequence, order, keys, values } = problem;
  const { queryHeads, kvHeads, length, keyDim } = shape;
  if (length * (keyDim + valueDim) > MOST_CHECKED) return undefined;
  const kvHead = Math.floor(head / (queryHeads / kvHeads));
  const scale = 1 / Math.sqrt(keyDim);
  const query = Float64Array.from({ length: keyDim }, (_, i) =>
    randomValue(queryValues(shape), (sequence * queryHeads + head) * keyDim + i),
  );
  const scores = new Float64Array(length);
  const rowAt = (key: number): number => {
    const block = order[sequence * perSequence + Math.floor(key / blockSize)] ?? 0;
    return ((block * blockSize + (key % blockSize)) * kvHeads + kvHead) * keyDim;
  };
  let maximum = Number.NEGATIVE_INFINITY;
  for (let key = 0; key < length; key++) {
    const at = rowAt(key);
    let score = 0;
    for (let i = 0; i < keyDim; i++) score += (query[i] ?? 0) * randomValue(keys, at + i);
    scores[key] = score * scale;
    maximum = Math.max(maximum, score * scale);
  }
  let sum = 0;
  const out = new Float64Array(valueDim);
  for (let key = 0; key < length; key++) {
    const weight = Math.exp((scores[key] ?? 0) - maximum);
    sum += weight;
    // A weight this small changes no digit that is compared.
    if (weight < 1e-12) continue;
    const at = rowAt(key);
    for (let i = 0; i < valueDim; i++) out[i] = (out[i] ?? 0) + weight * randomValue(values, at + i);
  }
  return { out: out.map((value) => value / sum), lse: maximum + Math.log(sum) };
}

/** Of a row's distance by norm: weights are rounded to f16 on matrix units. */
const TOLERANCE = { f32: 2e-5, f16: 4e-4 } as const;

/** Distance by norm, in units of the tolerance. */
async function rowError(
  bench: GpuBench,
  expected: { out: Float64Array; lse: number } | undefined,
  out: Parameters<GpuBench["numbers"]>[0],
  lse: Parameters<GpuBench["numbers"]>[0],
  row: number,
  tolerance: number,
): Promise<number> {
  if (expected === undefined) return 0;
  const heads = out.shape[1] ?? 1;
  const [b, h] = [Math.floor(row / heads), row % heads];
  const actual = await bench.numbers(out.slice(0, b, b + 1).slice(1, h, h + 1));
  const [actualLse = Number.NaN] = await bench.numbers(lse.slice(0, b, b + 1).slice(1, h, h + 1));
  let difference = (actualLse - expected.lse) ** 2;
  let norm = 1e-12;
  for (const [i, want] of expected.out.entries()) {
    difference += ((actual[i] ?? Number.NaN) - want) ** 2;
    norm += want ** 2;
  }
  const error = Math.sqrt(difference / norm) / tolerance;
  return Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
}
