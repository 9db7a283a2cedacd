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
  /** What the exchange alone took on 2 GPUs with NCCL, eagerly, in microseconds; see `nccl_peer.py`. */
  readonly nccl?: NcclTimes;
}

/** By the GPU's name. */
export interface NcclTimes {
  readonly H200: number;
  readonly H100: number;
}

/** Microseconds that were recorded on GPUs of an adapter's name; undefined for others. */
export function recordedNccl({ nccl }: StepShape, device: string): number | undefined {
  if (nccl === undefined) return undefined;
  return device.includes("H200") ? nccl.H200 : device.includes("H100") ? nccl.H100 : undefined;
}

const LENGTH = 64;

function mla(batch: number, nccl?: NcclTimes): StepShape {
  const heads = { queryHeads: 128, kvHeads: 1, headDim: 576, valueDim: 512, dtype: "bf16" } as const;
  return {
    name: `B${batch} H128 Dq576 Dv512 bf16`,
    batch,
    ...heads,
    ...partialOf(batch, "bf16"),
    length: LENGTH,
    ...(nccl === undefined ? {} : { nccl }),
  };
}

function gqa(batch: number, nccl?: NcclTimes): StepShape {
  const heads = { queryHeads: 32, kvHeads: 8, headDim: 128, valueDim: 128, dtype: "f16" } as const;
  const known = { length: LENGTH, ...(nccl === undefined ? {} : { nccl }) };
  return { name: `B${batch} H32 D128 f16`, batch, ...heads, ...partialOf(batch, "f16"), ...known };
}

/** Where bytes count, ranks exchange 16 bits, as the original does. */
function partialOf(batch: number, dtype: "f16" | "bf16"): Pick<StepShape, "partialDtype"> {
  return { partialDtype: batch === 1 ? "f32" : dtype };
}

/** The shapes whose times with NCCL are known. */
export const STEP_SHAPES: readonly StepShape[] = [
  mla(1, { H200: 124, H100: 357 }),
  mla(8, { H200: 152, H100: 345 }),
  mla(64, { H200: 174, H100: 391 }),
  gqa(1, { H200: 212, H100: 297 }),
  gqa(32, { H200: 146, H100: 353 }),
  gqa(256, { H200: 188, H100: 328 }),
];

/** Steps of which a rank brings down 4 and 17 MB of two ranks' partial outputs. */
export const LARGE_SHAPES: readonly StepShape[] = [gqa(1024), mla(256)];

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

/** Where a step's queries lie, and where its results are wanted. */
export type OperandPlace = "heap" | "GPU";

/** Who holds a device: every rank, or rank 0 for all. */
export type Sharing = "own devices" | "shared device";

/** How a step's operands lie, and who computes. */
export interface StepPlaces {
  readonly ranks: number;
  readonly sharing: Sharing;
  readonly queries: OperandPlace;
  readonly results: OperandPlace;
}

/**
 * Bytes that must go up to a rank's GPU and come down from it in a step. With queries in the heap: up the queries of
 * all heads. Down the outputs and LSEs of all heads or, where partial outputs are combined on the GPU, of those that
 * peers own, and up what the peers computed for its own. Of ranks that share a device: up everybody's queries, and down
 * everybody's results, where they lie in the heap or are wanted there, and nothing else.
 */
export function transferBytes(shape: StepShape, places: StepPlaces): { up: number; down: number } {
  const { batch, queryHeads, headDim, valueDim, partialDtype } = shape;
  const { ranks, sharing, queries: queryPlace, results } = places;
  const outputBytes = partialDtype === "f32" ? 4 : 2;
  const queries = queryPlace === "heap" ? batch * queryHeads * headDim * 2 : 0;
  if (sharing === "shared device") {
    return { up: queries, down: results === "heap" ? batch * queryHeads * valueDim * 4 : 0 };
  }
  const all = batch * queryHeads * (valueDim * outputBytes + 4);
  if (results === "heap") return { up: queries, down: all };
  const ofPeers = Math.ceil((all * (ranks - 1)) / ranks / 4) * 4;
  return { up: queries + ofPeers, down: ofPeers };
}
