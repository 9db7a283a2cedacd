/**
 * A buffer that the recorder owns and grows: what goes up, what kernels write that comes down, what comes down as it
 * lies in a GPU tensor, and what lives for one submission. What is put together from parts is `together`, apart from
 * scratch, which a dispatch may write that reads it. Of these `readback` is memory that the host maps: copies write it,
 * and kernels cannot bind it.
 */
export type Pool = "upload" | "result" | "readback" | "scratch" | "together";

/** A range of a buffer that a kernel binds. Regions of pools find their buffer when the submission is encoded. */
export interface Region {
  readonly home: Pool | GPUBuffer;
  /** In bytes, a multiple of REGION_ALIGNMENT. */
  readonly offset: number;
  /** Bytes to bind. */
  readonly size: number;
  /** Elements from the start of the region to the operand's first. */
  readonly first: number;
  /** The operand's strides in elements. */
  readonly strides: readonly number[];
}

/** True when two regions share bytes: WebGPU then refuses to write both in one dispatch. */
export function regionsOverlap(a: Region, b: Region): boolean {
  return a.home === b.home && a.offset < b.offset + b.size && b.offset < a.offset + a.size;
}

/** WebGPU lets storage and uniform bindings start at multiples of 256 bytes on every device. */
export const REGION_ALIGNMENT = 256;

/**
 * Bytes reserved for a region that needs `bytes`: rounded up in steps of an eighth to a quarter, so that operands that
 * grow a little from call to call keep their places, and bind groups can be reused.
 */
export function reservedBytes(bytes: number): number {
  const step = Math.max(REGION_ALIGNMENT, 2 ** (Math.floor(Math.log2(Math.max(1, bytes))) - 2));
  return Math.ceil(Math.max(1, bytes) / step) * step;
}
