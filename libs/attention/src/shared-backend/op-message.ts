import { GpuTensor } from "@lockstep/kernels";
import { type DType, type SharedHeap, Tensor, type TensorDescriptor } from "@lockstep/tensor";
import type { Call } from "./op-call.ts";

/** A view of memory on the GPU, by the number that its rank gave the memory. */
export interface GpuView {
  readonly id: number;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly elementOffset: number;
}

/** What JSON has no form for, marked by its first field. */
type Marked =
  | { readonly $: "tensor"; readonly descriptor: TensorDescriptor }
  | { readonly $: "gpu"; readonly view: GpuView }
  | { readonly $: "number"; readonly text: string };

/** Calls as bytes: a line of JSON for each, in which tensors are descriptors of where they lie, so that no data moves. */
export function encodeCalls(calls: readonly Call[]): Uint8Array {
  const lines = calls.map((call) => JSON.stringify(call, (_, value: unknown) => mark(value)));
  return new TextEncoder().encode(lines.join("\n"));
}

/**
 * The calls that {@link encodeCalls} took apart, on another thread. Each is put together when it is asked for, so that it can
 * be about memory that the one before allocated.
 * @param heap any range of the memory that the tensors lie in
 * @param gpuTensor finds the tensor of a view
 */
export function decodeCalls(
  bytes: Uint8Array,
  heap: SharedHeap,
  gpuTensor: (view: GpuView) => GpuTensor,
): (() => Call)[] {
  // A decoder takes no view of shared memory.
  const text = new TextDecoder().decode(bytes.slice());
  const revive = (_: string, value: unknown): unknown => {
    if (!isMarked(value)) return value;
    if (value.$ === "tensor") return Tensor.fromDescriptor(value.descriptor, heap);
    return value.$ === "gpu" ? gpuTensor(value.view) : Number(value.text);
  };
  return text === "" ? [] : text.split("\n").map((line) => () => JSON.parse(line, revive) as Call);
}

function mark(value: unknown): unknown {
  if (value instanceof Tensor) return { $: "tensor", descriptor: value.descriptor } satisfies Marked;
  if (value instanceof GpuTensor) return { $: "gpu", view: viewOf(value) } satisfies Marked;
  if (ArrayBuffer.isView(value) && "length" in value) return Array.from(value as unknown as ArrayLike<number>);
  const isPlain = typeof value !== "number" || (Number.isFinite(value) && !Object.is(value, -0));
  return isPlain ? value : ({ $: "number", text: Object.is(value, -0) ? "-0" : String(value) } satisfies Marked);
}

function viewOf({ memory, dtype, shape, strides, elementOffset }: GpuTensor): GpuView {
  // A buffer of a device of this thread means nothing to the other: no memory has the number -1.
  return { id: "remoteId" in memory ? memory.remoteId : -1, dtype, shape, strides, elementOffset };
}

function isMarked(value: unknown): value is Marked {
  return typeof value === "object" && value !== null && "$" in value;
}
