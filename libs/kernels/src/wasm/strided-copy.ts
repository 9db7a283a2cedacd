import { DTYPE_BYTES, type Tensor } from "@lockstep/tensor";
import type { WasmKernels } from "./wasm-kernels.ts";

/** A dimension of a pair of views, strides in bytes. */
interface Dimension {
  readonly size: number;
  readonly sourceStride: number;
  readonly targetStride: number;
}

/**
 * Makes sure that copies and fills of up to `rank` dimensions find their memory, so that a series cannot fail midway.
 */
export function reserveForCopy(kernels: WasmKernels, rank: number): void {
  kernels.reserve(rank * 12);
}

/** Copies every element bit for bit between tensors of the same dtype and shape, any strides. */
export function copyStrided(kernels: WasmKernels, source: Tensor, target: Tensor): void {
  const { dimensions, bytes } = mergedDimensions(source, target);
  if (bytes === 0) return;
  const table = writeTable(kernels, dimensions);
  kernels.kernel("copyStrided")(table, dimensions.length, source.byteOffset, target.byteOffset, bytes);
}

/** Writes one element's bit pattern everywhere. */
export function fillStrided(kernels: WasmKernels, target: Tensor, bits: number): void {
  const { dimensions, bytes } = mergedDimensions(target, target);
  if (bytes === 0) return;
  const width = DTYPE_BYTES[target.dtype];
  const pattern = width === 4 ? bits : width === 2 ? bits * 0x10001 : bits * 0x1010101;
  const table = writeTable(kernels, dimensions);
  kernels.kernel("fillStrided")(table, dimensions.length, target.byteOffset, bytes, pattern);
}

/**
 * The fewest dimensions that describe both views, outermost first, and the bytes that are contiguous in both below
 * them (0 when there is nothing to move).
 */
function mergedDimensions(source: Tensor, target: Tensor): { dimensions: Dimension[]; bytes: number } {
  const width = DTYPE_BYTES[source.dtype];
  if (source.size === 0) return { dimensions: [], bytes: 0 };
  const dimensions: Dimension[] = [];
  let bytes = width;
  for (let dim = source.rank - 1; dim >= 0; dim--) {
    const size = source.dim(dim);
    if (size === 1) continue;
    const sourceStride = source.stride(dim) * width;
    const targetStride = target.stride(dim) * width;
    const inner = dimensions[0];
    if (inner === undefined && sourceStride === bytes && targetStride === bytes) bytes *= size;
    else if (
      inner !== undefined &&
      sourceStride === inner.sourceStride * inner.size &&
      targetStride === inner.targetStride * inner.size
    ) {
      dimensions[0] = { ...inner, size: inner.size * size };
    } else dimensions.unshift({ size, sourceStride, targetStride });
  }
  return { dimensions, bytes };
}

function writeTable(kernels: WasmKernels, dimensions: readonly Dimension[]): number {
  const { pointer, ints } = kernels.reserve(dimensions.length * 12);
  let at = 0;
  for (const { size, sourceStride, targetStride } of dimensions) {
    ints[at++] = size;
    ints[at++] = sourceStride;
    ints[at++] = targetStride;
  }
  return pointer;
}
