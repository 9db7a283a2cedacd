import { DTYPE_BYTES, SharedHeap, Tensor } from "@lockstep/tensor";
import { GpuTensor } from "../gpu-tensor.ts";
import type { Operand } from "../operand.ts";
import { bufferOfBytes, bytesOfBuffer } from "./gpu-bytes.ts";

/** Arguments that lie in the heap for every backend. */
const HEAP_ONLY = new Set(["blockTable", "sinks", "keyScale", "valueScale"]);
/** Operands that may have any strides on a GPU. */
const CACHE = /cache$/i;
/** Bytes of a buffer before what is a tensor's. */
const MARGIN = 256;

/** Bytes of the heap that lie in one buffer. */
interface Island {
  start: number;
  end: number;
  readonly tensors: Tensor[];
}

/** Operands of an op in buffers of a caller's, in place of those in the heap. */
export interface OnBuffers<Args> {
  readonly args: Args;
  readonly buffers: readonly GPUBuffer[];
  /** Copies what lies in the buffers back to the heap, and destroys them. */
  bringBack(): Promise<void>;
}

/**
 * Puts the heap operands of an op into buffers: those that share bytes into one, with their strides, and those that
 * must be contiguous on a GPU as copies that are.
 */
export function onBuffers<Args extends object>(device: GPUDevice, args: Args): OnBuffers<Args> {
  const heap = SharedHeap.create(16 << 20);
  const copies: { readonly copy: Tensor; readonly original: Tensor }[] = [];
  const resident = new Map<Tensor, Tensor>();
  const forEachOperand = (visit: (name: string, tensor: Tensor) => Operand): Args => {
    const entries = Object.entries(args).map(([name, value]: [string, unknown]) => {
      if (HEAP_ONLY.has(name)) return [name, value];
      if (value instanceof Tensor) return [name, visit(name, value)];
      if (Array.isArray(value)) {
        return [name, value.map((part: unknown) => (part instanceof Tensor ? visit(name, part) : part))];
      }
      return [name, value];
    });
    return Object.fromEntries(entries) as Args;
  };
  forEachOperand((name, tensor) => {
    const isLeft = tensor.isContiguous || CACHE.test(name);
    const copy = isLeft ? tensor : Tensor.empty(heap, tensor.dtype, tensor.shape).copyFrom(tensor);
    if (!isLeft) copies.push({ copy, original: tensor });
    resident.set(tensor, copy);
    return tensor;
  });
  const islands = islandsOf([...new Set(resident.values())]);
  const homes = new Map<Tensor, { readonly buffer: GPUBuffer; readonly start: number }>();
  const buffers = islands.map(({ start, end, tensors: [first, ...more] }) => {
    if (first === undefined) throw new RangeError("an island of nothing");
    const bytes = new Uint8Array(MARGIN + Math.max(16, end - start));
    bytes.set(new Uint8Array(first.heap.buffer, start, end - start), MARGIN);
    const buffer = bufferOfBytes(device, bytes);
    for (const tensor of [first, ...more]) homes.set(tensor, { buffer, start: start - MARGIN });
    return buffer;
  });
  const wrapped = new Map<Tensor, GpuTensor>();
  const placed = forEachOperand((_, tensor) => {
    const known = wrapped.get(tensor);
    if (known !== undefined) return known;
    const { dtype, shape, strides, byteOffset } = resident.get(tensor) ?? tensor;
    const home = homes.get(resident.get(tensor) ?? tensor);
    if (home === undefined) throw new RangeError("a tensor without a buffer");
    const elementOffset = (byteOffset - home.start) / DTYPE_BYTES[dtype];
    const view = GpuTensor.wrap(home.buffer, dtype, shape, { strides, elementOffset, device });
    wrapped.set(tensor, view);
    return view;
  });
  return {
    args: placed,
    buffers,
    bringBack: async () => {
      for (const [index, { start, end, tensors }] of islands.entries()) {
        const [buffer, first] = [buffers[index], tensors[0]];
        if (buffer === undefined || first === undefined) throw new RangeError("an island without a buffer");
        const bytes = await bytesOfBuffer(device, buffer);
        new Uint8Array(first.heap.buffer, start, end - start).set(bytes.subarray(MARGIN, MARGIN + end - start));
        buffer.destroy();
      }
      for (const { copy, original } of copies) original.copyFrom(copy);
    },
  };
}

/** Ranges of the heap that hold tensors; tensors that share bytes lie in one. Starts are multiples of 16 bytes. */
function islandsOf(tensors: readonly Tensor[]): Island[] {
  const islands: Island[] = [];
  const startOf = (tensor: Tensor): number => Math.floor(tensor.byteOffset / 16) * 16;
  for (const tensor of tensors.toSorted((a, b) => a.byteOffset - b.byteOffset)) {
    const last = islands.find(
      ({ tensors: [other], end }) => other?.heap === tensor.heap && tensor.size > 0 && tensor.byteOffset < end,
    );
    if (last === undefined) islands.push({ start: startOf(tensor), end: tensor.byteEnd, tensors: [tensor] });
    else {
      last.end = Math.max(last.end, tensor.byteEnd);
      last.tensors.push(tensor);
    }
  }
  return islands;
}
