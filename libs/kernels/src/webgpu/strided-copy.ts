import { contiguousStrides, DTYPE_BYTES, spannedElements, type Tensor } from "@lockstep/tensor";

type Words = Uint8Array | Uint16Array | Uint32Array;

/** `length` elements of `width` bytes as unsigned integers: moving them changes no bit, not even of a NaN. */
function wordsOf(width: number, buffer: ArrayBufferLike, byteOffset: number, length: number): Words {
  if (width === 4) return new Uint32Array(buffer, byteOffset, length);
  if (width === 2) return new Uint16Array(buffer, byteOffset, length);
  return new Uint8Array(buffer, byteOffset, length);
}

function tensorWords(tensor: Tensor): Words {
  const length = spannedElements(tensor.shape, tensor.strides);
  return wordsOf(DTYPE_BYTES[tensor.dtype], tensor.heap.buffer, tensor.byteOffset, length);
}

/**
 * Copies a heap tensor, whatever its strides, into `target` at `byteOffset`, under `strides` there: default in row-major
 * order without gaps.
 */
export function gatherTensor(
  tensor: Tensor,
  target: ArrayBufferLike,
  byteOffset: number,
  strides: readonly number[] = contiguousStrides(tensor.shape),
): void {
  if (tensor.size === 0) return;
  const length = spannedElements(tensor.shape, strides);
  const to = wordsOf(DTYPE_BYTES[tensor.dtype], target, byteOffset, length);
  copyStrided(tensor.shape, tensorWords(tensor), tensor.strides, to, strides);
}

/** Copies elements that lie at `byteOffset` of `source` under `strides` into a heap tensor, whatever its strides. */
export function scatterTensor(
  source: ArrayBufferLike,
  byteOffset: number,
  strides: readonly number[],
  tensor: Tensor,
): void {
  if (tensor.size === 0) return;
  const length = spannedElements(tensor.shape, strides);
  const from = wordsOf(DTYPE_BYTES[tensor.dtype], source, byteOffset, length);
  copyStrided(tensor.shape, from, strides, tensorWords(tensor), tensor.strides);
}

function copyStrided(
  shape: readonly number[],
  from: Words,
  fromStrides: readonly number[],
  to: Words,
  toStrides: readonly number[],
): void {
  const run = innerRun(shape, fromStrides, toStrides);
  copyRuns(shape, shape.length - run.dims, run.elements, from, 0, fromStrides, to, 0, toStrides, 0);
}

/** How many inner dimensions lie without gaps on both sides, and how many elements they hold. */
function innerRun(
  shape: readonly number[],
  fromStrides: readonly number[],
  toStrides: readonly number[],
): { dims: number; elements: number } {
  let elements = 1;
  let dims = 0;
  for (let dim = shape.length - 1; dim >= 0; dim--, dims++) {
    const size = shape[dim] ?? 1;
    if (size !== 1 && (fromStrides[dim] !== elements || toStrides[dim] !== elements)) break;
    elements *= size;
  }
  return { dims, elements };
}

function copyRuns(
  shape: readonly number[],
  outerDims: number,
  run: number,
  from: Words,
  fromAt: number,
  fromStrides: readonly number[],
  to: Words,
  toAt: number,
  toStrides: readonly number[],
  dim: number,
): void {
  if (dim === outerDims) {
    if (run === 1) to[toAt] = from[fromAt] ?? 0;
    else to.set(from.subarray(fromAt, fromAt + run), toAt);
    return;
  }
  const fromStep = fromStrides[dim] ?? 0;
  const toStep = toStrides[dim] ?? 0;
  const size = shape[dim] ?? 0;
  for (let index = 0; index < size; index++) {
    const next = dim + 1;
    copyRuns(
      shape,
      outerDims,
      run,
      from,
      fromAt + index * fromStep,
      fromStrides,
      to,
      toAt + index * toStep,
      toStrides,
      next,
    );
  }
}
