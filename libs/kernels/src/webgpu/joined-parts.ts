import { ArgumentError, formatShape } from "@lockstep/tensor";
import { GpuTensor, type RemoteGpuMemory } from "../gpu-tensor.ts";
import { expectList, expectOperand, type Operand } from "../operand.ts";

const OP = "join";

/** Stands for the memory of a tensor that is put together from its parts whenever an op reads it. */
export class JoinedParts implements RemoteGpuMemory {
  readonly isRemote = true;
  readonly size: number;
  /** Side by side along dimension 1. */
  readonly parts: readonly Operand[];
  readonly shape: readonly number[];

  constructor(parts: readonly Operand[], shape: readonly number[], bytes: number) {
    this.parts = parts;
    this.shape = shape;
    this.size = bytes;
  }
}

/** Operands as one: see `KernelBackend.join`. @throws ArgumentError for parts that do not fit together */
export function joinParts(parts: readonly Operand[]): GpuTensor {
  expectList(OP, "parts", parts);
  const first = parts[0];
  if (first === undefined) throw new ArgumentError(OP, "parts", "one or more tensors", "none");
  let along = 0;
  let bytes = 0;
  for (let index = 0; index < parts.length; index++) {
    const argument = `parts[${index}]`;
    const part = parts[index] ?? first;
    expectOperand(OP, argument, part);
    const { dtype, shape } = part;
    const fits = shape.length >= 2 && shape.every((size, dim) => dim === 1 || size === first.shape[dim]);
    if (!fits || shape.length !== first.shape.length || dtype !== first.dtype) {
      const expected = `${first.dtype} of shape ${formatShape(first.shape)}, but for dimension 1`;
      throw new ArgumentError(OP, argument, expected, part.toString());
    }
    if (part.place === "device" && !hasWholeRows(part)) {
      const strides = `strides [${part.strides.join(", ")}]`;
      throw new ArgumentError(OP, argument, "without gaps but between indexes of dimension 0, on a GPU", strides);
    }
    along += shape[1] ?? 0;
    bytes += part.byteLength;
  }
  const shape = first.shape.map((size, dim) => (dim === 1 ? along : size));
  return new GpuTensor(new JoinedParts(parts, shape, bytes), first.dtype, shape, undefined, 0, () => undefined);
}

/** True when what lies under one index of dimension 0 has no gaps. */
export function hasWholeRows(tensor: GpuTensor): boolean {
  let step = 1;
  for (let dim = tensor.shape.length - 1; dim > 0; dim--) {
    const size = tensor.shape[dim] ?? 1;
    if (size !== 1 && tensor.strides[dim] !== step && tensor.size > 0) return false;
    step *= size;
  }
  return true;
}

/** The parts of what `tensor` shows of joined ones: some indexes of dimension 0. @throws ArgumentError for other views */
export function partsOf(tensor: GpuTensor, { parts, shape }: JoinedParts): readonly Operand[] {
  const [rows = 0, ...rest] = tensor.shape;
  const rowElements = rest.reduce((product, size) => product * size, 1);
  const isOfRows = tensor.isContiguous && rest.every((size, at) => size === shape[at + 1]);
  if (!isOfRows || (rowElements > 0 && tensor.elementOffset % rowElements !== 0)) {
    const expected = "all of what was joined, or some indexes of dimension 0";
    throw new ArgumentError("webgpu", "a joined operand", expected, `a view ${formatShape(tensor.shape)} of it`);
  }
  for (const part of parts) part.assertUsable("webgpu", "a part of a joined operand");
  if (rows === shape[0]) return parts;
  const first = rowElements === 0 ? 0 : tensor.elementOffset / rowElements;
  return parts.map((part) => part.slice(0, first, first + rows));
}
