// A reference file with a case of every variant that `bun run goldens` accepts, computed here in float64.
import { type DType, SharedHeap, Tensor, writeSafetensors } from "@lockstep/tensor";
import { attendInFloat64, type ReferenceVariant } from "../libs/attention/test/attention-reference.ts";
import { RandomStream } from "./random.ts";

interface Variant {
  readonly fields: Readonly<Record<string, unknown>> & { readonly lens: readonly number[] };
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly keyDim: number;
  /** Left out: MLA with values of the first `latentDim` columns. */
  readonly valueDim?: number;
  readonly latentDim?: number;
  /** Of the keys and values in the file. */
  readonly dtype?: DType;
  readonly queryDtype?: DType;
  readonly sinks?: "tensor" | "field";
}

const GQA = { queryHeads: 4, kvHeads: 2, keyDim: 8, valueDim: 6 } as const;

const VARIANTS: readonly Variant[] = [
  { ...GQA, fields: { lens: [20, 0, 33], window: 7, softcap: 3, scale: 0.5 }, sinks: "tensor" },
  { ...GQA, fields: { lens: [20, 5], queries: [4, 0], window: null, lse_base: "2" }, sinks: "field" },
  { ...GQA, fields: { lens: [40], k_scale: [0.1, 0.02], v_scale: 2 }, dtype: "f8e4m3" },
  { ...GQA, fields: { lens: [40, 3], k_scale: 0.02, v_scale: [0.01, 0.03], queries: [2, 3] }, dtype: "i8" },
  { ...GQA, fields: { lens: [17], q_scale: 0.01 }, queryDtype: "f8e4m3" },
  { queryHeads: 5, kvHeads: 1, keyDim: 12, latentDim: 10, fields: { lens: [30, 2] }, dtype: "bf16" },
  { queryHeads: 2, kvHeads: 1, keyDim: 12, latentDim: 8, fields: { lens: [30], k_scale: 0.02 }, dtype: "f8e4m3" },
];

/** Writes the file; returns how many cases it has. */
export function writeVariants(path: string): number {
  const heap = SharedHeap.create(4 << 20);
  const tensors: [string, Tensor][] = [];
  const random = new RandomStream(61);
  const cases = VARIANTS.map((variant, index) => {
    const { fields, queryHeads, kvHeads, keyDim, valueDim, latentDim = 0, dtype = "f32", queryDtype = "f32" } = variant;
    const { lens } = fields;
    const queries = (fields.queries ?? lens.map(() => 1)) as readonly number[];
    const total = lens.reduce((sum, length) => sum + length, 0);
    const rows = queries.reduce((sum, count) => sum + count, 0);
    const make = (type: DType, count: number, heads: number, dim: number): Tensor => {
      const spread = type === "i8" ? 40 : type === "f8e4m3" ? 30 : 1;
      const numbers = random.normals(count * heads * dim).map((value) => spread * value);
      return Tensor.from(heap, type, [count, heads, dim], type === "i8" ? numbers.map(clampedByte) : numbers);
    };
    const query = make(queryDtype, rows, queryHeads, keyDim);
    const key = make(dtype, total, kvHeads, keyDim);
    const value = valueDim === undefined ? undefined : make(dtype, total, kvHeads, valueDim);
    const sinks = variant.sinks === undefined ? undefined : [0.5, -1, 2, 0];
    const worth = (name: string, head: number): number => {
      const scale = fields[name] ?? 1;
      return Array.isArray(scale) ? (scale[head] ?? 1) : Number(scale);
    };
    const rowsOf = (source: Tensor, row: number, scale: string): Float64Array[] =>
      Array.from({ length: source.dim(1) }, (_, head) => {
        const numbers = source.select(0, row).select(0, head).toNumbers();
        return numbers.map((number) => number * worth(scale, head));
      });
    const reference: ReferenceVariant = {
      scale: Number(fields.scale ?? 1 / Math.sqrt(keyDim)),
      headsPerKv: queryHeads / kvHeads,
      ...(typeof fields.window === "number" ? { window: fields.window } : {}),
      ...(typeof fields.softcap === "number" ? { softcap: fields.softcap } : {}),
      ...(sinks === undefined ? {} : { sinks }),
    };
    const out: number[] = [];
    const lse: number[] = [];
    let [first, row] = [0, 0];
    for (const [sequence, length] of lens.entries()) {
      const places = Array.from({ length }, (_, at) => first + at);
      const keys = places.map((place) => rowsOf(key, place, "k_scale"));
      const values =
        value === undefined
          ? keys.map((heads) => heads.map((numbers) => numbers.slice(0, latentDim)))
          : places.map((place) => rowsOf(value, place, "v_scale"));
      const count = queries[sequence] ?? 0;
      for (let at = 0; at < count; at++, row++) {
        for (const [head, numbers] of rowsOf(query, row, "q_scale").entries()) {
          const position = length - count + at;
          const result = attendInFloat64(numbers, head, position, { keys, values }, reference);
          out.push(...(length === 0 ? new Float64Array(valueDim ?? latentDim) : result.out));
          lse.push(fields.lse_base === "2" ? result.lse * Math.LOG2E : result.lse);
        }
      }
      first += length;
    }
    tensors.push([`a${index}.q`, query], [`a${index}.k`, key]);
    if (value !== undefined) tensors.push([`a${index}.v`, value]);
    tensors.push([`a${index}.out`, Tensor.from(heap, "f32", [rows, queryHeads, valueDim ?? latentDim], out)]);
    tensors.push([`a${index}.lse`, Tensor.from(heap, "f32", [rows, queryHeads], lse)]);
    if (variant.sinks === "tensor")
      tensors.push([`a${index}.sinks`, Tensor.from(heap, "f32", [queryHeads], sinks ?? [])]);
    return variant.sinks === "field" ? { ...fields, sinks } : fields;
  });
  writeSafetensors(path, tensors, { cases: JSON.stringify(cases) });
  return cases.length;
}

function clampedByte(value: number): number {
  return Math.max(-127, Math.min(127, Math.round(value)));
}
