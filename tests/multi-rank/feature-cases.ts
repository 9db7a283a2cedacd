// What a replay of the feature tests stores and asks, and what float64 makes of it.
import type { SharedHeap, TensorDescriptor } from "@lockstep/tensor";
import { type DType, Tensor } from "@lockstep/tensor";
import { attendInFloat64, type ReferenceVariant } from "../attention-reference.ts";
import { RandomStream } from "../random.ts";
import type { Replay, SentOptions, Steps } from "./attention-program.ts";

/** One combination of features. */
export interface FeatureCase {
  readonly name: string;
  readonly steps: Steps;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly keyDim: number;
  /** Default: keyDim. With `mla` the first so many columns of the keys. */
  readonly valueDim?: number;
  /** Of the keys and values that come, and of the cache. Default "f32". */
  readonly kvDtype?: DType;
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
  const key = filled(kvHeads, keyDim, kvDtype);
  const value = options.mla === true ? undefined : filled(kvHeads, valueDim, kvDtype);
  const out = Tensor.empty(heap, "f32", [rows, queryHeads, valueDim]);
  const lse = Tensor.empty(heap, "f32", [rows, queryHeads]);
  const sinkTensor = sinks === undefined ? undefined : Tensor.from(heap, "f32", [1, queryHeads], sinks);
  const tensors = [query, key, out, lse, ...(value === undefined ? [] : [value]), ...(sinkTensor ? [sinkTensor] : [])];
  const values = value ?? key.slice(2, 0, valueDim);
  const { softcap, window, scale = 1 / Math.sqrt(keyDim) } = options;
  const variant: ReferenceVariant = {
    scale,
    headsPerKv: queryHeads / kvHeads,
    ...(softcap === undefined ? {} : { softcap }),
    ...(window === undefined ? {} : { window }),
    ...(sinks === undefined ? {} : { sinks }),
  };
  const lseUnit = options.lseBase === "2" ? Math.LOG2E : 1;
  const expected = expectedResults(steps, query, key, values, variant);
  const descriptors: { value?: TensorDescriptor; sinks?: TensorDescriptor } = {
    ...(value === undefined ? {} : { value: value.descriptor }),
    ...(sinkTensor === undefined ? {} : { sinks: sinkTensor.descriptor }),
  };
  return {
    replay: {
      steps,
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
    },
  };
}

function expectedResults(
  steps: Steps,
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
  for (const step of steps) {
    for (const [index, sequence] of sequences.entries()) {
      for (let token = 0; token < (step[index] ?? 0); token++, row++) {
        sequence.keys.push(heads(key, row));
        sequence.values.push(heads(value, row));
        for (const [head, queryRow] of heads(query, row).entries()) {
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
    if (got === want || Math.abs(got - want) <= tolerance + tolerance * Math.abs(want)) continue;
    throw new Error(`${what}: element ${index} is ${got} instead of ${want}`);
  }
}
