// What a replay of the feature tests stores and asks, and what float64 makes of it.
import type { KvScales } from "@lockstep/attention";
import { isQuantised } from "@lockstep/kernels";
import {
  type DType,
  float8ToNumber,
  numberToFloat8,
  type SharedHeap,
  Tensor,
  type TensorDescriptor,
} from "@lockstep/tensor";
import { attendInFloat64, type ReferenceVariant } from "./attention-reference.ts";
import { RandomStream } from "../../../tests/random.ts";
import type { Replay, SentOptions, Steps } from "./attention-program.ts";

/** One combination of features. */
export interface FeatureCase {
  readonly name: string;
  readonly steps: Steps;
  /** So many steps at the start only store; their results stay NaN. Default 0. */
  readonly fills?: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly keyDim: number;
  /** Default: keyDim. With `mla` the first so many columns of the keys. */
  readonly valueDim?: number;
  /**
   * Of the cache, and of the keys and values that come unless it is quantised: then they come in f32. Default "f32".
   */
  readonly kvDtype?: DType;
  /** Of the results, beside f32 arithmetic on what is stored. */
  readonly tolerance?: number;
  readonly blockSize: number;
  readonly sinks?: readonly number[];
  readonly options: SentOptions & { readonly window?: number };
}

/** A case's tensors in the world's heap, and the results expected of them. */
export interface PreparedCase {
  readonly replay: Replay;
  readonly out: Tensor;
  readonly lse: Tensor;
  readonly expectedOut: readonly number[];
  readonly expectedLse: readonly number[];
  readonly free: () => void;
}

export function prepareCase(item: FeatureCase, heap: SharedHeap, seed: number): PreparedCase {
  const { steps, queryHeads, kvHeads, keyDim, valueDim = keyDim, kvDtype = "f32", sinks, options } = item;
  const random = new RandomStream(seed);
  const rows = steps.flat().reduce((sum, tokens) => sum + tokens, 0);
  const filled = (heads: number, dim: number, dtype: DType): Tensor =>
    Tensor.from(heap, dtype, [rows, heads, dim], random.normals(rows * heads * dim));
  const query = filled(queryHeads, keyDim, "f32");
  const comes = isQuantised(kvDtype) ? "f32" : kvDtype;
  const key = filled(kvHeads, keyDim, comes);
  const value = options.mla === true ? undefined : filled(kvHeads, valueDim, comes);
  const out = Tensor.empty(heap, "f32", [rows, queryHeads, valueDim]);
  const lse = Tensor.empty(heap, "f32", [rows, queryHeads]);
  const sinkTensor = sinks === undefined ? undefined : Tensor.from(heap, "f32", [1, queryHeads], sinks);
  const tensors = [query, key, out, lse, ...(value === undefined ? [] : [value]), ...(sinkTensor ? [sinkTensor] : [])];
  const scales = givenScales(options.kvScales);
  const storedKey = stored(key, kvDtype, scales?.key, heap);
  const storedValue =
    value === undefined ? storedKey.slice(2, 0, valueDim) : stored(value, kvDtype, scales?.value, heap);
  const asked = options.gatherDtype === undefined ? query : stored(query, "f8e4m3", options.queryScale ?? 1, heap);
  const { softcap, window, scale = 1 / Math.sqrt(keyDim) } = options;
  const variant: ReferenceVariant = {
    scale,
    headsPerKv: queryHeads / kvHeads,
    ...(softcap === undefined ? {} : { softcap }),
    ...(window === undefined ? {} : { window }),
    ...(sinks === undefined ? {} : { sinks }),
  };
  const lseUnit = options.lseBase === "2" ? Math.LOG2E : 1;
  const expected = expectedResults(item, asked, storedKey, storedValue, variant);
  const descriptors: { value?: TensorDescriptor; sinks?: TensorDescriptor } = {
    ...(value === undefined ? {} : { value: value.descriptor }),
    ...(sinkTensor === undefined ? {} : { sinks: sinkTensor.descriptor }),
  };
  return {
    replay: {
      steps,
      fills: item.fills ?? 0,
      query: query.descriptor,
      key: key.descriptor,
      out: out.descriptor,
      lse: lse.descriptor,
      kvDtype,
      blockSize: item.blockSize,
      options,
      ...descriptors,
    },
    out,
    lse,
    expectedOut: expected.out,
    expectedLse: expected.lse.map((natural) => natural * lseUnit),
    free: () => {
      for (const tensor of tensors) tensor.free();
      for (const tensor of [asked, storedKey, ...(value === undefined ? [] : [storedValue])]) {
        if (!tensors.includes(tensor)) tensor.free();
      }
    },
  };
}

/** Undefined for scales per token. */
function givenScales(given: SentOptions["kvScales"]): KvScales | undefined {
  return given === "per-token" ? undefined : Array.isArray(given) ? given[0] : (given as KvScales | undefined);
}

/**
 * What a cache of `dtype` holds of rows, as numbers: themselves unless it is quantised; without a scale each row has
 * its own.
 */
function stored(rows: Tensor, dtype: DType, scale: number | readonly number[] | undefined, heap: SharedHeap): Tensor {
  if (!isQuantised(dtype)) return rows;
  const [heads, dim] = [rows.dim(1), rows.dim(2)];
  const given = rows.toNumbers();
  const numbers = given.map((value, at) => {
    const row = Math.floor(at / dim);
    const known = typeof scale === "number" ? scale : scale?.[row % heads];
    const unit = Math.fround(known ?? scaleOfRow(given.subarray(row * dim, (row + 1) * dim), dtype));
    const scaled = Math.fround(value * Math.fround(1 / unit));
    return unit * (dtype === "i8" ? nearestByte(scaled) : float8ToNumber(numberToFloat8(scaled)));
  });
  // In float64 terms: f32 holds a product of an 8-bit number and a scale to 1 part in 2^24.
  return Tensor.from(heap, "f32", rows.shape, numbers);
}

/** The largest f32 by which 127 or 448 stands for no more than the row's largest magnitude. */
function scaleOfRow(row: Float64Array, dtype: DType): number {
  const largest = dtype === "i8" ? 127 : 448;
  const most = row.reduce((size, value) => Math.max(size, Math.abs(value)), 0);
  const nearest = new Float32Array([most / largest]);
  if ((nearest[0] ?? 0) * largest > most)
    new Int32Array(nearest.buffer)[0] = (new Int32Array(nearest.buffer)[0] ?? 0) - 1;
  return Math.max(2 ** -100, nearest[0] ?? 0);
}

/** Nearest integer, ties to even, from -128 to 127. */
function nearestByte(value: number): number {
  const rounded = Math.abs(value % 1) === 0.5 ? 2 * Math.round(value / 2) : Math.round(value);
  return Math.min(127, Math.max(-128, rounded));
}

function expectedResults(
  { steps, fills = 0 }: FeatureCase,
  query: Tensor,
  key: Tensor,
  value: Tensor,
  variant: ReferenceVariant,
): { out: number[]; lse: number[] } {
  const heads = (source: Tensor, row: number): Float64Array[] =>
    Array.from({ length: source.dim(1) }, (_, head) => source.select(0, row).select(0, head).toNumbers());
  const sequences = (steps[0] ?? []).map(() => ({ keys: [] as Float64Array[][], values: [] as Float64Array[][] }));
  const out: number[] = [];
  const lse: number[] = [];
  let row = 0;
  for (const [at, step] of steps.entries()) {
    for (const [index, sequence] of sequences.entries()) {
      for (let token = 0; token < (step[index] ?? 0); token++, row++) {
        sequence.keys.push(heads(key, row));
        sequence.values.push(heads(value, row));
        for (const [head, queryRow] of heads(query, row).entries()) {
          if (at < fills) {
            for (let dim = 0; dim < value.dim(2); dim++) out.push(Number.NaN);
            lse.push(Number.NaN);
            continue;
          }
          const result = attendInFloat64(queryRow, head, sequence.keys.length - 1, sequence, variant);
          out.push(...result.out);
          lse.push(result.lse);
        }
      }
    }
  }
  return { out, lse };
}

/** Throws, naming the first element beyond tolerance + tolerance * |expected|. */
export function expectNear(what: string, actual: Tensor, expected: readonly number[], tolerance: number): void {
  const numbers = actual.toNumbers();
  if (numbers.length !== expected.length)
    throw new Error(`${what}: ${numbers.length} elements, not ${expected.length}`);
  for (const [index, want] of expected.entries()) {
    const got = numbers[index] ?? Number.NaN;
    if (
      got === want ||
      (Number.isNaN(got) && Number.isNaN(want)) ||
      Math.abs(got - want) <= tolerance + tolerance * Math.abs(want)
    )
      continue;
    throw new Error(`${what}: element ${index} is ${got} instead of ${want}`);
  }
}
