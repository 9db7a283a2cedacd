import { isQuantised, type KernelBackend, openBackend } from "@lockstep/kernels";
import { type Allocator, Arena, DTYPE_BYTES, type DType, type SharedHeap, Tensor } from "@lockstep/tensor";
import type { RowReport } from "../report.ts";
import type { CeilingMeter } from "./ceilings.ts";
import { isWanted, type OpRow, rowReport } from "./row-report.ts";
import { repeatableTensor } from "../repeatable-tensor.ts";

/** One op at one size. */
interface OpBench extends OpRow {
  readonly prepare: (arena: Allocator) => Prepared;
  readonly tolerance: number;
}

/** An op's operands: how to run it over them, and where its result lies. */
interface Prepared {
  readonly run: (backend: KernelBackend) => void;
  readonly result: Tensor;
}

/** Room for the operands of a row. */
const OPERAND_BYTES = 512 << 20;

/** Figures of the ops that contain `only` on the wasm backend, on one core, checked against float64. */
export async function measureOps(heap: SharedHeap, meter: CeilingMeter, only: string): Promise<RowReport[]> {
  const wasm = await openBackend("wasm", { heap });
  const reference = await openBackend("reference", { heap });
  const arena = new Arena(heap, OPERAND_BYTES);
  const rows: RowReport[] = [];
  for (const bench of OPS) {
    if (!isWanted(bench, only)) continue;
    const { run, result } = bench.prepare(arena);
    result.fill(Number.NaN);
    run(reference);
    const expected = result.toNumbers();
    result.fill(Number.NaN);
    run(wasm);
    const error = errorOf(bench, result, expected);
    const { seconds, ceilings } = meter.beside(() => run(wasm), bench.ceiling);
    errorOf(bench, result, expected);
    rows.push(rowReport(bench, seconds, error, ceilings));
    arena.reset();
  }
  arena.close();
  await wasm.close();
  await reference.close();
  return rows;
}

/** The largest error, in units of the tolerance. Throws when it is more than one. */
function errorOf({ op, shape, dtype, tolerance }: OpBench, result: Tensor, expected: Float64Array): number {
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

function random(arena: Allocator, dtype: DType, shape: readonly number[]): Tensor {
  return repeatableTensor(arena, dtype, shape, 1, dtype === "i8" ? 100 : 1);
}

function correct(dtype: DType): OpBench {
  const [ranks, batch, heads, dim] = [8, 64, 64, 512];
  return {
    op: "correct-attn-out",
    shape: "N8 B64 H64 D512",
    dtype,
    ceiling: "copy",
    bytes: 2 * batch * heads * dim * DTYPE_BYTES[dtype] + (ranks + 1) * batch * heads * 4,
    tolerance: TOLERANCES[dtype] ?? 0,
    prepare: (arena) => {
      const out = random(arena, dtype, [batch, heads, dim]);
      const lses = random(arena, "f32", [ranks, batch, heads]);
      const result = Tensor.empty(arena, dtype, out.shape);
      const lse = Tensor.empty(arena, "f32", [batch, heads]);
      return {
        run: (backend) => void backend.correctAttnOut({ partialOut: out, lses, rank: 1, out: result, lse }),
        result,
      };
    },
  };
}

/** Sequences of 512, 496, ... tokens of 1024 columns. */
const LENGTHS = Array.from({ length: 16 }, (_, index) => 512 - 16 * index);
const TOTAL_LENGTH = LENGTHS.reduce((sum, length) => sum + length, 0);

function pack(dtype: DType): OpBench {
  return {
    op: "pack-seq",
    shape: "B16 Lmax512 D1024",
    dtype,
    ceiling: "copy",
    bytes: (TOTAL_LENGTH + 16 * 512) * 1024 * DTYPE_BYTES[dtype],
    tolerance: 0,
    prepare: (arena) => {
      const x = random(arena, dtype, [TOTAL_LENGTH, 1024]);
      const result = Tensor.empty(arena, dtype, [16, 512, 1024]);
      return { run: (backend) => void backend.packSeq({ x, lengths: LENGTHS, padValue: 0, out: result }), result };
    },
  };
}

function unpack(dtype: DType): OpBench {
  return {
    op: "unpack-seq",
    shape: "B16 Lmax512 D1024",
    dtype,
    ceiling: "copy",
    bytes: 2 * TOTAL_LENGTH * 1024 * DTYPE_BYTES[dtype],
    tolerance: 0,
    prepare: (arena) => {
      const packed = random(arena, dtype, [16, 512, 1024]);
      const result = Tensor.empty(arena, dtype, [TOTAL_LENGTH, 1024]);
      return { run: (backend) => void backend.unpackSeq({ packed, lengths: LENGTHS, out: result }), result };
    },
  };
}

function merge(dtype: DType, states: number): OpBench {
  const [tokens, heads, dim] = [64, 64, 512];
  return {
    op: "merge-attn-states",
    shape: `N${states} T64 H64 D512`,
    dtype,
    ceiling: "copy",
    bytes: (states + 1) * tokens * heads * (dim * DTYPE_BYTES[dtype] + 4),
    tolerance: TOLERANCES[dtype] ?? 0,
    prepare: (arena) => {
      const outs = Array.from({ length: states }, () => random(arena, dtype, [tokens, heads, dim]));
      const lses = outs.map(() => random(arena, "f32", [tokens, heads]));
      const result = Tensor.empty(arena, dtype, [tokens, heads, dim]);
      const lse = Tensor.empty(arena, "f32", [tokens, heads]);
      return { run: (backend) => void backend.mergeAttnStates({ outs, lses, out: result, lse }), result };
    },
  };
}

function write(dtype: DType, kvDtype: DType): OpBench {
  const [tokens, heads, dim, blockSize] = [4096, 8, 128, 16];
  return {
    op: "write-kv-cache",
    shape: "T4096 Hkv8 D128",
    dtype: `${dtype} to ${kvDtype}`,
    ceiling: "copy",
    bytes: 2 * tokens * heads * dim * (DTYPE_BYTES[dtype] + DTYPE_BYTES[kvDtype]),
    tolerance: 0,
    prepare: (arena) => {
      const key = random(arena, dtype, [tokens, heads, dim]);
      const value = random(arena, dtype, [tokens, heads, dim]);
      const shape = [tokens / blockSize, blockSize, heads, dim];
      const keyCache = Tensor.zeros(arena, kvDtype, shape);
      const result = Tensor.zeros(arena, kvDtype, shape);
      const slotMapping = Int32Array.from({ length: tokens }, (_, token) => (token * 2053) % tokens);
      return {
        run: (backend) =>
          void backend.writeKvCache({ key, value, slotMapping, keyCache, valueCache: result, ...scales(kvDtype) }),
        result,
      };
    },
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
): OpBench {
  const blockSize = 16;
  const blocks = tokens / blockSize;
  const positions = Int32Array.from({ length: queries }, (_, index) => tokens - queries + index);
  const pairs = positions.reduce((sum, position) => sum + position + 1, 0);
  return {
    op: queries === 1 ? "decode" : `prefill T${queries}`,
    shape: `Hq${queryHeads} Hkv${kvHeads} L${tokens} D${dim}`,
    dtype: kvDtype,
    ceiling: "read",
    bytes: 2 * tokens * kvHeads * dim * DTYPE_BYTES[kvDtype],
    flops: 4 * pairs * queryHeads * dim,
    tolerance: 1e-4,
    prepare: (arena) => {
      const keyCache = random(arena, kvDtype, [blocks, blockSize, kvHeads, dim]);
      const valueCache = random(arena, kvDtype, [blocks, blockSize, kvHeads, dim]);
      const order = Array.from({ length: blocks }, (_, index) => (index * 7919) % blocks);
      const blockTable = Tensor.from(arena, "i32", [1, blocks], order);
      const query = random(arena, "f32", [queries, queryHeads, dim]);
      const result = Tensor.empty(arena, "f32", [queries, queryHeads, dim]);
      const lse = Tensor.empty(arena, "f32", [queries, queryHeads]);
      return {
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
      };
    },
  };
}

/** Of results that round: errors of f32 sums, and half a unit in the last place of the 16-bit formats. */
const TOLERANCES: Partial<Record<DType, number>> = { f32: 1e-5, f16: 2 ** -10, bf16: 2 ** -7 };
const FLOATS: readonly DType[] = ["f32", "f16", "bf16"];

const OPS: readonly OpBench[] = [
  ...FLOATS.map(correct),
  ...FLOATS.map(pack),
  ...FLOATS.map(unpack),
  ...FLOATS.flatMap((dtype) => [merge(dtype, 2), merge(dtype, 4)]),
  ...[...FLOATS, "f8e4m3" as const, "i8" as const].map((kvDtype) => write("f32", kvDtype)),
  write("bf16", "bf16"),
  attention("f16", 64, 8, 64, 7680, 1),
  attention("f8e4m3", 64, 8, 64, 7680, 1),
  attention("i8", 64, 8, 64, 7680, 1),
  attention("f32", 32, 8, 128, 32768, 1),
  attention("f32", 8, 2, 64, 1024, 256),
];
