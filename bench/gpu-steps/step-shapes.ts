/** A decode step of one layer: one query token for each of `batch` sequences of `length` tokens. */
export interface StepShape {
  readonly name: string;
  readonly batch: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly valueDim: number;
  readonly dtype: "f16" | "bf16";
  /** In which the ranks exchange partial outputs. */
  readonly partialDtype: "f32" | "f16" | "bf16";
  readonly length: number;
  /** What the exchange alone took on 2 H200 with NCCL and the original kernels, eagerly, in microseconds. */
  readonly nccl?: number;
}

const LENGTH = 64;

function mla(batch: number, nccl: number): StepShape {
  const heads = { queryHeads: 128, kvHeads: 1, headDim: 576, valueDim: 512, dtype: "bf16" } as const;
  return {
    name: `B${batch} H128 Dq576 Dv512 bf16`,
    batch,
    ...heads,
    ...partialOf(batch, "bf16"),
    length: LENGTH,
    nccl,
  };
}

function gqa(batch: number, nccl: number): StepShape {
  const heads = { queryHeads: 32, kvHeads: 8, headDim: 128, valueDim: 128, dtype: "f16" } as const;
  return { name: `B${batch} H32 D128 f16`, batch, ...heads, ...partialOf(batch, "f16"), length: LENGTH, nccl };
}

/** Where bytes count, ranks exchange 16 bits, as the original does. */
function partialOf(batch: number, dtype: "f16" | "bf16"): Pick<StepShape, "partialDtype"> {
  return { partialDtype: batch === 1 ? "f32" : dtype };
}

/** The shapes whose times with NCCL are known. */
export const STEP_SHAPES: readonly StepShape[] = [
  mla(1, 124),
  mla(8, 152),
  mla(64, 174),
  gqa(1, 212),
  gqa(32, 146),
  gqa(256, 188),
];

/** Small ones, for checking the bench on software Vulkan. */
export const SMALL_SHAPES: readonly StepShape[] = [
  {
    name: "B2 H8 D32 f16",
    batch: 2,
    queryHeads: 8,
    kvHeads: 2,
    headDim: 32,
    valueDim: 32,
    dtype: "f16",
    partialDtype: "f16",
    length: 20,
  },
];

/** Bytes that must go up to a GPU and come down from it in a step: the queries of all heads, their outputs and LSEs. */
export function transferBytes(shape: StepShape): { up: number; down: number } {
  const { batch, queryHeads, headDim, valueDim, partialDtype } = shape;
  const outputBytes = partialDtype === "f32" ? 4 : 2;
  return { up: batch * queryHeads * headDim * 2, down: batch * queryHeads * (valueDim * outputBytes + 4) };
}
