import { type Allocator, Arena, DTYPE_BYTES, type SharedHeap, Tensor } from "@lockstep/tensor";
import { Layers } from "../../libs/language-model/src/layers/layers.ts";
import { repeatableTensor } from "../repeatable-tensor.ts";
import type { RowReport } from "../report.ts";
import type { CeilingMeter } from "./ceilings.ts";
import { isWanted, rowReport } from "./row-report.ts";

/** Rows and columns of the demo model's matrices: Q, K, V, O, gate, up and down of each layer, then the logits. */
const LAYER = [
  [512, 256],
  [128, 256],
  [128, 256],
  [256, 512],
  [704, 256],
  [704, 256],
  [256, 704],
] as const;
const SHAPES = [...Array.from({ length: 8 }, () => LAYER).flat(), [4096, 256] as const];
const WIDEST = 704;
const TOKENS = [1, 4, 16, 256];
const DTYPES = ["bf16", "f16", "f32", "i8"] as const;
/** Largest error of an output over the sum of the magnitudes of its products: of int8, that of inputs in 15 bits. */
const TOLERANCES = { bf16: 1e-6, f16: 1e-6, f32: 1e-6, i8: 1e-4 } as const;
const OPERAND_BYTES = 64 << 20;

type WeightDType = (typeof DTYPES)[number];
type Weight = Parameters<Layers["linear"]>[1];

/**
 * Figures of all linear layers of the demo model, one after another as a step computes them, in the rows that contain
 * `only`, on one core; the first of them is checked against float64.
 */
export function measureLinear(heap: SharedHeap, meter: CeilingMeter, only: string): RowReport[] {
  const rows: RowReport[] = [];
  const layers = Layers.open(heap, { maxTokens: Math.max(...TOKENS), maxInputs: WIDEST });
  const arena = new Arena(heap, OPERAND_BYTES);
  for (const dtype of DTYPES) {
    for (const tokens of TOKENS) {
      const elements = SHAPES.reduce((sum, [outs, ins]) => sum + outs * ins, 0);
      const row = {
        op: "linear layers of the demo",
        shape: tokens === 1 ? "1 token" : `${tokens} tokens`,
        dtype,
        bytes: dtype === "i8" ? elements + elements / 8 : elements * DTYPE_BYTES[dtype],
        flops: 2 * elements * tokens,
        ceiling: "read",
      } as const;
      if (!isWanted(row, only)) continue;
      const weights = SHAPES.map(([outs, ins], index) => weight(arena, layers, dtype, outs, ins, index));
      const x = repeatableTensor(arena, "f32", [tokens, WIDEST], 1);
      const y = Tensor.empty(arena, "f32", [tokens, 4096]);
      const calls = weights.map((own) => {
        const [outs, ins] = [own.values.dim(0), own.values.dim(1)];
        return [rowsOf(x, tokens, ins), own, rowsOf(y, tokens, outs)] as const;
      });
      const [first] = calls;
      if (first === undefined) throw new Error("no layers");
      y.fill(Number.NaN);
      layers.linear(...first);
      const error = errorOf(...first, TOLERANCES[dtype]);
      const { seconds, ceilings } = meter.beside(() => {
        for (const call of calls) layers.linear(...call);
      }, row.ceiling);
      rows.push(rowReport(row, seconds, error, ceilings));
      arena.reset();
    }
  }
  arena.close();
  return rows;
}

function weight(arena: Allocator, layers: Layers, dtype: WeightDType, outs: number, ins: number, seed: number): Weight {
  const values = repeatableTensor(arena, dtype === "i8" ? "bf16" : dtype, [outs, ins], seed, 0.1);
  if (dtype === "f16") return { values, isFinite: true };
  if (dtype !== "i8") return { values };
  const scales = Tensor.empty(arena, "f32", [outs, Math.ceil(ins / 32)]);
  const quantised = { values: Tensor.empty(arena, "i8", [outs, ins]), scales };
  layers.quantise(values, quantised);
  return quantised;
}

/** The first elements of a tensor as so many rows. */
function rowsOf(tensor: Tensor, tokens: number, columns: number): Tensor {
  const flat = tensor.reshape([tensor.size]);
  return flat.slice(0, 0, tokens * columns).reshape([tokens, columns]);
}

/** The largest error, in units of the tolerance. Throws when it is more than one. */
function errorOf(x: Tensor, { values, scales }: Weight, y: Tensor, tolerance: number): number {
  const [tokens, outs, ins] = [x.dim(0), values.dim(0), values.dim(1)];
  const [inputs, stored, found] = [x.toNumbers(), values.toNumbers(), y.toNumbers()];
  const factors = scales?.toNumbers();
  const groups = Math.ceil(ins / 32);
  let largest = 0;
  for (let at = 0; at < tokens * outs; at++) {
    const [token, out] = [Math.floor(at / outs), at % outs];
    let [sum, size] = [0, 0];
    for (let i = 0; i < ins; i++) {
      const factor = factors === undefined ? 1 : (factors[out * groups + (i >> 5)] ?? Number.NaN);
      const product = (inputs[token * ins + i] ?? Number.NaN) * (stored[out * ins + i] ?? Number.NaN) * factor;
      sum += product;
      size += Math.abs(product);
    }
    const error = Math.abs((found[at] ?? Number.NaN) - sum) / (size * tolerance);
    if (!(error <= 1)) throw new Error(`linear: output ${out} of token ${token} is ${found[at]} instead of ${sum}`);
    largest = Math.max(largest, error);
  }
  return largest;
}
