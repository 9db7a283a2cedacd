import { isQuantised, type KernelBackend, openBackend } from "@lockstep/kernels";
import { DTYPE_BYTES, type DType, SharedHeap, Tensor } from "@lockstep/tensor";
import { copyBandwidth } from "./memory-ceiling.ts";
import { formatSeconds, medianSeconds, printTable } from "./timing.ts";

/** One op at one size: how to run it, what it must move, and where its result lies. */
interface OpBench {
  readonly name: string;
  /** Bytes that must be read and written at least once. */
  readonly bytes: number;
  /** Multiply-adds count two. */
  readonly flops?: number;
  readonly run: (backend: KernelBackend) => void;
  readonly result: Tensor;
  readonly tolerance: number;
}

/** Times each op on the wasm backend against the copy bandwidth of the same run; checks each against float64. */
export async function benchWasmOps(): Promise<void> {
  const heap = SharedHeap.create(1 << 30);
  const wasm = await openBackend("wasm", { heap });
  const reference = await openBackend("reference", { heap });
  const ceiling = await copyBandwidth(heap, 32 << 20);
  console.log(`\nOps on wasm, one core. Copy bandwidth (read + written), same run: ${(ceiling / 1e9).toFixed(1)} GB/s`);
  const rows: string[][] = [];
  for (const make of OPS) {
    const bench = make(heap);
    bench.result.fill(Number.NaN);
    bench.run(reference);
    const expected = bench.result.toNumbers();
    bench.result.fill(Number.NaN);
    bench.run(wasm);
    checkClose(bench.name, bench.result.toNumbers(), expected, bench.tolerance);
    const seconds = await medianSeconds(() => bench.run(wasm));
    checkClose(bench.name, bench.result.toNumbers(), expected, bench.tolerance);
    const bandwidth = bench.bytes / seconds;
    const gflops = bench.flops === undefined ? "" : (bench.flops / seconds / 1e9).toFixed(1);
    rows.push([
      bench.name,
      formatSeconds(seconds),
      (bandwidth / 1e9).toFixed(1),
      (bandwidth / ceiling).toFixed(2),
      gflops,
    ]);
  }
  printTable(["op", "time", "GB/s", "of copy", "GFLOP/s"], rows);
  await wasm.close();
  await reference.close();
}

function checkClose(name: string, actual: Float64Array, expected: Float64Array, tolerance: number): void {
  for (let index = 0; index < expected.length; index++) {
    const [got, want] = [actual[index] ?? Number.NaN, expected[index] ?? Number.NaN];
    if (got !== want && !(Math.abs(got - want) <= tolerance * (1 + Math.abs(want)))) {
      throw new Error(`${name}: element ${index} is ${got} instead of ${want}`);
    }
  }
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
      name: `correct-attn-out N8 B64 H64 D512 ${dtype}`,
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
      name: `pack-seq B16 Lmax512 D1024 ${dtype}`,
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
      name: `unpack-seq B16 Lmax512 D1024 ${dtype}`,
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
      name: `merge-attn-states N${states} T64 H64 D512 f32`,
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
      name: `write-kv-cache T4096 Hkv8 D128 f32 to ${kvDtype}`,
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
      name: `partial-attention ${queries === 1 ? "decode" : `prefill T${queries}`} Hq${queryHeads} Hkv${kvHeads} L${tokens} D${dim} ${kvDtype}`,
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
