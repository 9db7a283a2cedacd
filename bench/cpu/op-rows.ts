import { isQuantised, type KernelBackend, openBackend } from "@lockstep/kernels";
import { DTYPE_BYTES, type DType, type SharedHeap, Tensor } from "@lockstep/tensor";
import type { Ceilings, RowReport } from "../report.ts";
import { medianSeconds } from "../timing.ts";
import { type OpRow, rowReport } from "./row-report.ts";

/** One op at one size: how to run it, and where its result lies. */
interface OpBench extends OpRow {
  readonly run: (backend: KernelBackend) => void;
  readonly result: Tensor;
  readonly tolerance: number;
}

/** Figures of each op on the wasm backend, on one core, checked against float64. */
export async function measureOps(heap: SharedHeap, ceilings: Ceilings): Promise<RowReport[]> {
  const wasm = await openBackend("wasm", { heap });
  const reference = await openBackend("reference", { heap });
  const rows: RowReport[] = [];
  for (const make of OPS) {
    const bench = make(heap);
    bench.result.fill(Number.NaN);
    bench.run(reference);
    const expected = bench.result.toNumbers();
    bench.result.fill(Number.NaN);
    bench.run(wasm);
    const error = errorOf(bench, expected);
    const seconds = await medianSeconds(() => bench.run(wasm));
    errorOf(bench, expected);
    rows.push(rowReport(bench, seconds, error, ceilings));
  }
  await wasm.close();
  await reference.close();
  return rows;
}

/** The largest error, in units of the tolerance. Throws when it is more than one. */
function errorOf({ op, shape, dtype, result, tolerance }: OpBench, expected: Float64Array): number {
  const actual = result.toNumbers();
  let largest = 0;
  for (let index = 0; index < expected.length; index++) {
    const [got, want] = [actual[index] ?? Number.NaN, expected[index] ?? Number.NaN];
    if (got === want) continue;
    const error = Math.abs(got - want) / (tolerance * (1 + Math.abs(want)));
    if (!(error <= 1)) throw new Error(`${op} ${shape} ${dtype}: element ${index} is ${got} instead of ${want}`);
    largest = Math.max(largest, error);
  }
  return largest;
}

/** Repeatable values in [-1, 1). */
function random(heap: SharedHeap, dtype: DType, shape: readonly number[]): Tensor {
  const tensor = Tensor.empty(heap, dtype, shape);
  let state = 1;
  tensor.set(
    Float64Array.from({ length: tensor.size }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return (dtype === "i8" ? 100 : 1) * (state / 2 ** 31 - 1);
    }),
  );
  return tensor;
}

function correct(dtype: DType): (heap: SharedHeap) => OpBench {
  return (heap) => {
    const [ranks, batch, heads, dim] = [8, 64, 64, 512];
    const out = random(heap, dtype, [batch, heads, dim]);
    const lses = random(heap, "f32", [ranks, batch, heads]);
    const result = Tensor.empty(heap, dtype, out.shape);
    const lse = Tensor.empty(heap, "f32", [batch, heads]);
    return {
      op: "correct-attn-out",
      shape: "N8 B64 H64 D512",
      dtype,
      ceiling: "copy",
      bytes: 2 * out.byteLength + lses.byteLength + lse.byteLength,
      run: (backend) => void backend.correctAttnOut({ out, lses, rank: 1, correctedOut: result, lse }),
      result,
      tolerance: dtype === "f32" ? 1e-5 : 1e-2,
    };
  };
}

function pack(dtype: DType): (heap: SharedHeap) => OpBench {
  return (heap) => {
    const lengths = Array.from({ length: 16 }, (_, index) => 512 - 16 * index);
    const total = lengths.reduce((sum, length) => sum + length, 0);
    const x = random(heap, dtype, [total, 1024]);
    const result = Tensor.empty(heap, dtype, [16, 512, 1024]);
    return {
      op: "pack-seq",
      shape: "B16 Lmax512 D1024",
      dtype,
      ceiling: "copy",
      bytes: x.byteLength + result.byteLength,
      run: (backend) => void backend.packSeq({ x, lengths, padValue: 0, out: result }),
      result,
      tolerance: 0,
    };
  };
}

function unpack(dtype: DType): (heap: SharedHeap) => OpBench {
  return (heap) => {
    const lengths = Array.from({ length: 16 }, (_, index) => 512 - 16 * index);
    const total = lengths.reduce((sum, length) => sum + length, 0);
    const packed = random(heap, dtype, [16, 512, 1024]);
    const result = Tensor.empty(heap, dtype, [total, 1024]);
    return {
      op: "unpack-seq",
      shape: "B16 Lmax512 D1024",
      dtype,
      ceiling: "copy",
      bytes: 2 * result.byteLength,
      run: (backend) => void backend.unpackSeq({ packed, lengths, out: result }),
      result,
      tolerance: 0,
    };
  };
}

function merge(states: number): (heap: SharedHeap) => OpBench {
  return (heap) => {
    const [tokens, heads, dim] = [64, 64, 512];
    const outs = Array.from({ length: states }, () => random(heap, "f32", [tokens, heads, dim]));
    const lses = outs.map(() => random(heap, "f32", [tokens, heads]));
    const result = Tensor.empty(heap, "f32", [tokens, heads, dim]);
    const lse = Tensor.empty(heap, "f32", [tokens, heads]);
    return {
      op: "merge-attn-states",
      shape: `N${states} T64 H64 D512`,
      dtype: "f32",
      ceiling: "copy",
      bytes: (states + 1) * (result.byteLength + lse.byteLength),
      run: (backend) => void backend.mergeAttnStates({ outs, lses, out: result, lse }),
      result,
      tolerance: 1e-5,
    };
  };
}

function write(kvDtype: DType): (heap: SharedHeap) => OpBench {
  return (heap) => {
    const [tokens, heads, dim, blockSize] = [4096, 8, 128, 16];
    const key = random(heap, "f32", [tokens, heads, dim]);
    const value = random(heap, "f32", [tokens, heads, dim]);
    const shape = [tokens / blockSize, blockSize, heads, dim];
    const keyCache = Tensor.zeros(heap, kvDtype, shape);
    const result = Tensor.zeros(heap, kvDtype, shape);
    const slotMapping = Int32Array.from({ length: tokens }, (_, token) => (token * 2053) % tokens);
    return {
      op: "write-kv-cache",
      shape: "T4096 Hkv8 D128",
      dtype: `f32 to ${kvDtype}`,
      ceiling: "copy",
      bytes: 2 * (key.byteLength + keyCache.byteLength),
      run: (backend) =>
        void backend.writeKvCache({ key, value, slotMapping, keyCache, valueCache: result, ...scales(kvDtype) }),
      result,
      tolerance: 0,
    };
  };
}

/** Scales of a quantised cache. */
function scales(dtype: DType): { keyScale?: number[]; valueScale?: number[] } {
  return isQuantised(dtype) ? { keyScale: [0.01], valueScale: [0.01] } : {};
}

function attention(
  kvDtype: DType,
  queryHeads: number,
  kvHeads: number,
  dim: number,
  tokens: number,
  queries: number,
): (heap: SharedHeap) => OpBench {
  return (heap) => {
    const blockSize = 16;
    const blocks = tokens / blockSize;
    const keyCache = random(heap, kvDtype, [blocks, blockSize, kvHeads, dim]);
    const valueCache = random(heap, kvDtype, [blocks, blockSize, kvHeads, dim]);
    const order = Array.from({ length: blocks }, (_, index) => (index * 7919) % blocks);
    const blockTable = Tensor.from(heap, "i32", [1, blocks], order);
    const query = random(heap, "f32", [queries, queryHeads, dim]);
    const result = Tensor.empty(heap, "f32", [queries, queryHeads, dim]);
    const lse = Tensor.empty(heap, "f32", [queries, queryHeads]);
    const positions = Int32Array.from({ length: queries }, (_, index) => tokens - queries + index);
    const pairs = positions.reduce((sum, position) => sum + position + 1, 0);
    return {
      op: queries === 1 ? "decode" : `prefill T${queries}`,
      shape: `Hq${queryHeads} Hkv${kvHeads} L${tokens} D${dim}`,
      dtype: kvDtype,
      ceiling: "read",
      bytes: 2 * tokens * kvHeads * dim * DTYPE_BYTES[kvDtype],
      flops: 4 * pairs * queryHeads * dim,
      run: (backend) =>
        void backend.partialAttention({
          query,
          keyCache,
          valueCache,
          ...scales(kvDtype),
          blockTable,
          sequences: new Int32Array(queries),
          positions,
          out: result,
          lse,
        }),
      result,
      tolerance: 1e-4,
    };
  };
}

const OPS: readonly ((heap: SharedHeap) => OpBench)[] = [
  correct("f32"),
  correct("bf16"),
  pack("f32"),
  pack("bf16"),
  unpack("f32"),
  unpack("bf16"),
  merge(2),
  merge(4),
  write("f32"),
  write("f16"),
  write("f8e4m3"),
  write("i8"),
  attention("f16", 64, 8, 64, 7680, 1),
  attention("f8e4m3", 64, 8, 64, 7680, 1),
  attention("i8", 64, 8, 64, 7680, 1),
  attention("f32", 32, 8, 128, 32768, 1),
  attention("f32", 8, 2, 64, 1024, 256),
];
