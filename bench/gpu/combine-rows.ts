import { GpuTensor } from "@lockstep/kernels";
import { DTYPE_BYTES } from "@lockstep/tensor";
import type { FloatDType } from "../../libs/kernels/src/webgpu/wgsl-operands.ts";
import { at, type BenchRow, errorOf, freeAll, samples, setsFor, TOLERANCE } from "./bench-row.ts";
import type { GpuBench } from "./gpu-bench.ts";
import { randomValue } from "./random-values.ts";

/** correct-attn-out: scales one rank's partial output [B, H, D] by the LSEs of N ranks. */
export function correctRow(n: number, b: number, h: number, d: number, dtype: FloatDType): BenchRow {
  const bytes = 2 * b * h * d * DTYPE_BYTES[dtype] + (n + 1) * b * h * 4;
  return {
    op: "correct-attn-out",
    shape: `N${n} B${b} H${h} D${d}`,
    dtype,
    bytes,
    ceiling: "copy",
    prepare: async (bench) => {
      const sets = await Promise.all(
        Array.from({ length: setsFor(bytes) }, async (_, set) => ({
          out: await bench.random({ dtype, seed: 1000 * set, scale: 2 }, [b, h, d]),
          lses: await bench.random({ dtype: "f32", seed: 1000 * set + 7, scale: 8 }, [n, b, h]),
          corrected: bench.empty(dtype, [b, h, d]),
        })),
      );
      const lse = bench.empty("f32", [b, h]);
      const rank = 1;
      return {
        run: (call) => {
          const { out, lses, corrected } = at(sets, call);
          return bench.backend.correctAttnOut({ partialOut: out, lses, rank, out: corrected, lse });
        },
        outputs: [at(sets, 0).corrected, lse],
        error: async () => {
          const lses = (state: number, row: number): number =>
            randomValue({ dtype: "f32", seed: 7, scale: 8 }, state * b * h + row);
          let worst = 0;
          for (const row of samples(b * h)) {
            const { weights, total } = weigh(n, (state) => lses(state, row));
            const actual = await bench.numbers(rowOf(at(sets, 0).corrected, row));
            for (let column = 0; column < d; column++) {
              const own = randomValue({ dtype, seed: 0, scale: 2 }, row * d + column);
              worst = Math.max(
                worst,
                errorOf(actual[column] ?? Number.NaN, own * (weights[rank] ?? 0), TOLERANCE[dtype]),
              );
            }
            worst = Math.max(worst, await lseError(bench, lse, row, total));
          }
          return worst;
        },
        free: () => freeAll([lse, ...sets.flatMap((set) => Object.values(set))]),
      };
    },
  };
}

/** merge-attn-states: N partial outputs [T, H, D] and their LSEs into one. */
export function mergeRow(n: number, t: number, h: number, d: number, dtype: FloatDType): BenchRow {
  const bytes = (n + 1) * t * h * (d * DTYPE_BYTES[dtype] + 4);
  return {
    op: "merge-attn-states",
    shape: `N${n} T${t} H${h} D${d}`,
    dtype,
    bytes,
    ceiling: "copy",
    prepare: async (bench) => {
      const sets = await Promise.all(
        Array.from({ length: setsFor(bytes) }, async (_, set) => ({
          outs: await bench.random({ dtype, seed: 1000 * set, scale: 2 }, [n, t, h, d]),
          lses: await bench.random({ dtype: "f32", seed: 1000 * set + 7, scale: 8 }, [n, t, h]),
          out: bench.empty(dtype, [t, h, d]),
        })),
      );
      const lse = bench.empty("f32", [t, h]);
      const stacks = sets.map(({ outs, lses, out }) => ({ outs: states(outs), lses: states(lses), out }));
      return {
        run: (call) => bench.backend.mergeAttnStates({ ...at(stacks, call), lse }),
        outputs: [at(sets, 0).out, lse],
        error: async () => {
          let worst = 0;
          for (const row of samples(t * h)) {
            const { weights, total } = weigh(n, (state) =>
              randomValue({ dtype: "f32", seed: 7, scale: 8 }, state * t * h + row),
            );
            const actual = await bench.numbers(rowOf(at(sets, 0).out, row));
            for (let column = 0; column < d; column++) {
              let expected = 0;
              for (const [state, weight] of weights.entries()) {
                expected += weight * randomValue({ dtype, seed: 0, scale: 2 }, (state * t * h + row) * d + column);
              }
              worst = Math.max(worst, errorOf(actual[column] ?? Number.NaN, expected, TOLERANCE[dtype], 0.1));
            }
            worst = Math.max(worst, await lseError(bench, lse, row, total));
          }
          return worst;
        },
        free: () => freeAll([lse, ...sets.flatMap((set) => Object.values(set))]),
      };
    },
  };
}

function states(stack: GpuTensor): GpuTensor[] {
  const { buffer, dtype, elementOffset } = stack;
  const [count = 0, ...shape] = stack.shape;
  const [stride = 0, ...strides] = stack.strides;
  return Array.from(
    { length: count },
    (_, state) => new GpuTensor(buffer, dtype, shape, strides, elementOffset + state * stride, () => stack.free()),
  );
}

/** Row `row` of the first two dimensions of [B, H, ...]. */
function rowOf(tensor: GpuTensor, row: number): GpuTensor {
  const heads = tensor.shape[1] ?? 1;
  const [b, h] = [Math.floor(row / heads), row % heads];
  return tensor.slice(0, b, b + 1).slice(1, h, h + 1);
}

async function lseError(bench: GpuBench, lse: GpuTensor, row: number, expected: number): Promise<number> {
  const [actual = Number.NaN] = await bench.numbers(rowOf(lse, row));
  return errorOf(actual, expected, TOLERANCE.f32, 1);
}

/** Softmax weights of N LSEs and their log-sum-exp, in float64. */
function weigh(count: number, lse: (state: number) => number): { weights: number[]; total: number } {
  const lses = Array.from({ length: count }, (_, state) => lse(state));
  const maximum = Math.max(...lses);
  const sum = lses.reduce((total, value) => total + Math.exp(value - maximum), 0);
  const total = maximum + Math.log(sum);
  return { weights: lses.map((value) => Math.exp(value - total)), total };
}
