/**
 * The ops' WGSL, with its bindings, parameters and workgroups, for engines of one's own. Begin with {@link wgslOf}.
 *
 * @module @lockstep/kernels/wgsl
 */
import { ArgumentError, contiguousStrides, DTYPE_BYTES, type DType, describe, spannedElements } from "@lockstep/tensor";
import { COPY_DST, COPY_SRC, STORAGE } from "./device/buffer-usage.ts";
import { GpuTensor } from "./gpu-tensor.ts";
import type { Operand } from "./operand.ts";
import { type OpArguments, type OpName, planOp } from "./ops/op-table.ts";
import { GPU_OPS } from "./ops/webgpu-ops.ts";
import { describeProgram } from "./webgpu/describe-program.ts";
import { DescribingRecorder } from "./webgpu/describing-recorder.ts";
import type { WgslProgram } from "./webgpu/wgsl-program.ts";

export type { OpArguments, OpName } from "./ops/op-table.ts";
export type {
  WgslBinding,
  WgslCopy,
  WgslDispatch,
  WgslField,
  WgslOperandRange,
  WgslProgram,
  WgslScratchRange,
  WgslWords,
} from "./webgpu/wgsl-program.ts";

/** The device that WGSL is made for. The defaults run on every device that has WebGPU. */
export interface WgslTarget {
  /**
   * How many consecutive threads of a workgroup are sure to lie in one subgroup: a power of two. Default 0: kernels use
   * workgroup memory, and need no feature.
   */
  readonly subgroupWidth?: number;
  /** true: attention over f16 caches uses matrix units (`chromium-experimental-subgroup-matrix`). Default false. */
  readonly matrixUnits?: boolean;
  /** true: a row's bits depend on its own query and keys alone, as of `openBackend`. Default false: the fastest. */
  readonly batchInvariant?: boolean;
  /**
   * Whether `pack2x16float` rounds to the nearest f16, ties to even, which WGSL does not promise. Default false: f16
   * results are rounded in integers.
   */
  readonly packsHalves?: boolean;
  /** true: fewer threads to a workgroup, for a CPU that plays a GPU. Default false. */
  readonly software?: boolean;
  /** The device's limit of this name. Default 128 MiB. */
  readonly maxStorageBufferBindingSize?: number;
  /** The device's limit of this name. Default 16384. */
  readonly maxComputeWorkgroupStorageSize?: number;
  /** The device's limit of this name. Default 256. */
  readonly maxComputeInvocationsPerWorkgroup?: number;
}

/** Where an operand lies in its buffer. */
export interface BufferOperandOptions {
  /** In elements. Default: row-major without gaps. */
  readonly strides?: readonly number[];
  /** Element of the buffer that the first one is. Default 0. */
  readonly elementOffset?: number;
  /** Bytes of the buffer. Default: up to the operand's end, rounded up to 16. */
  readonly bufferBytes?: number;
}

/**
 * An operand in a buffer of an engine's, to describe it to {@link wgslOf}: it holds nothing. Its slices lie in the same
 * buffer; other operands lie in buffers of their own.
 * @throws ArgumentError for a view beyond the buffer
 */
export function bufferOperand(dtype: DType, shape: readonly number[], options: BufferOperandOptions = {}): GpuTensor {
  const { strides = contiguousStrides(shape), elementOffset = 0, bufferBytes } = options;
  const end = (elementOffset + spannedElements(shape, strides)) * (DTYPE_BYTES[dtype] ?? 4);
  const size = bufferBytes ?? Math.max(16, Math.ceil(end / 16) * 16);
  const buffer = { size, usage: STORAGE | COPY_SRC | COPY_DST, destroy: () => undefined };
  return GpuTensor.wrap(buffer, dtype, shape, { strides, elementOffset });
}

/**
 * What runs an op on a GPU: WGSL, what its bindings hold, the words of its parameters, and how many workgroups there
 * are. It is what the `webgpu` backend would submit for these arguments, made by the same code.
 *
 * Kernels are specialised for dtypes, head sizes and alignments, and compiled once for each `key`. The words hold what
 * differs from call to call (sizes, offsets, slots, block tables): ask again for every call. An op that has nothing to
 * do has no steps.
 * @param name of the op, as a method of `KernelBackend`
 * @param args of the op, its operands as {@link bufferOperand} or `GpuTensor.wrap` describes them. Block tables and
 *   sinks are tensors in a heap
 * @param target the device that it is to run on
 * @throws ArgumentError for arguments that the op refuses, and for operands that lie in a heap
 */
export function wgslOf<Name extends OpName>(name: Name, args: OpArguments[Name], target: WgslTarget = {}): WgslProgram {
  const recorder = new DescribingRecorder(deviceOf(target));
  GPU_OPS[name](recorder, args, planOp(name, args));
  return describeProgram(recorder.recording(), operandsOf(args));
}

function deviceOf(target: WgslTarget): ConstructorParameters<typeof DescribingRecorder>[0] {
  const { subgroupWidth = 0, matrixUnits = false, batchInvariant = false } = target;
  const { packsHalves = false, software = false } = target;
  const isWidth = subgroupWidth === 0 || (Number.isInteger(Math.log2(subgroupWidth)) && subgroupWidth >= 2);
  if (!isWidth) throw new ArgumentError("wgslOf", "subgroupWidth", "0 or a power of two", describe(subgroupWidth));
  return {
    subgroupWidth,
    packsHalves,
    software,
    matrixUnits: matrixUnits ? "native" : undefined,
    batchInvariant,
    limits: {
      maxStorageBufferBindingSize: target.maxStorageBufferBindingSize ?? 1 << 27,
      maxComputeWorkgroupStorageSize: target.maxComputeWorkgroupStorageSize ?? 16384,
      maxComputeInvocationsPerWorkgroup: target.maxComputeInvocationsPerWorkgroup ?? 256,
    },
  };
}

/** The operands of an op's arguments, by the names that a caller knows them by. */
function operandsOf(args: object): Map<string, Operand> {
  const found = new Map<string, Operand>();
  for (const [name, value] of Object.entries(args) as [string, unknown][]) {
    if (value instanceof GpuTensor) found.set(name, value);
    if (!Array.isArray(value)) continue;
    for (const [index, part] of value.entries()) if (part instanceof GpuTensor) found.set(`${name}[${index}]`, part);
  }
  return found;
}
