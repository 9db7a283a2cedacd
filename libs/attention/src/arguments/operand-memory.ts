// Operands of a step may lie in the heap or, where the backend has one, on its GPU.
import type { Completion, GpuTensor, KernelBackend, Operand } from "@lockstep/kernels";
import { type SharedHeap, Tensor } from "@lockstep/tensor";

/** True when an operand lies on a GPU. */
export function isOnGpu(operand: Operand | undefined): operand is GpuTensor {
  return operand?.place === "device";
}

/**
 * Runs what needs heap tensors over operands that may lie on a GPU. Inputs are copied into the heap first, outputs
 * copied back last.
 * @throws HeapExhausted, the backend's errors, and what `run` throws: nothing is copied back then
 */
export async function withHeapOperands<Inputs extends Operands, Outputs extends Operands>(
  backend: KernelBackend,
  heap: SharedHeap,
  inputs: Inputs,
  outputs: Outputs,
  run: (inputs: InHeap<Inputs>, outputs: InHeap<Outputs>) => Completion,
): Promise<void> {
  const copies: { readonly gpu: GpuTensor; readonly heap: Tensor }[] = [];
  const inHeap = (operand: Operand | undefined): Tensor | undefined => {
    if (!isOnGpu(operand)) return operand;
    const copy = Tensor.empty(heap, operand.dtype, operand.shape);
    copies.push({ gpu: operand, heap: copy });
    return copy;
  };
  try {
    const read = inputs.map(inHeap);
    for (const { gpu, heap: copy } of copies) await backend.download(gpu, copy);
    const inputCopies = copies.length;
    const written = outputs.map(inHeap);
    // The lists are as long as they were, with a tensor where there was an operand.
    await run(read as InHeap<Inputs>, written as InHeap<Outputs>);
    for (const { gpu, heap: copy } of copies.slice(inputCopies)) await backend.upload(copy, gpu);
  } finally {
    for (const { heap: copy } of copies) copy.free();
  }
}

type Operands = readonly (Operand | undefined)[];

/** The same list with heap tensors in place of operands. */
type InHeap<List extends Operands> = {
  readonly [Place in keyof List]: undefined extends List[Place] ? Tensor | undefined : Tensor;
};
