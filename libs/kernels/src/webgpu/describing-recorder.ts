import { ArgumentError } from "@lockstep/tensor";
import { KernelContext } from "../context.ts";
import type { GpuDevice } from "../device/gpu-device.ts";
import type { Operand } from "../operand.ts";
import type { Command } from "./commands.ts";
import type { CompiledKernel, KernelSource } from "./compiled-kernel.ts";
import { JoinedParts } from "./joined-parts.ts";
import { fieldsOf } from "./param-table.ts";
import { Recorder } from "./recorder.ts";
import type { Region } from "./region.ts";

/** A word of parameters: its name in TypeScript, and its type in WGSL. */
export interface WordField {
  readonly name: string;
  readonly type: string;
}

/** What regions of a recording are. */
export interface Recording {
  readonly commands: readonly Command[];
  /** Bytes of the `upload` pool. */
  readonly staging: ArrayBuffer;
  /** As in GpuDevice. */
  readonly packsHalves: boolean;
  sourceOf(kernel: CompiledKernel): KernelSource;
  /** The operand that a region was made for, the first of several. */
  operandOf(region: Region): Operand | undefined;
  fieldsOf(region: Region): readonly WordField[] | undefined;
}

/** What kernels are chosen by, of a device. */
export type DescribedDevice = Pick<
  GpuDevice,
  "subgroupWidth" | "software" | "matrixUnits" | "batchInvariant" | "packsHalves"
> & {
  readonly limits: {
    readonly maxStorageBufferBindingSize: number;
    readonly maxComputeWorkgroupStorageSize: number;
    readonly maxComputeInvocationsPerWorkgroup: number;
  };
};

function expectInBuffer(operand: Operand): void {
  if (operand.place === "device" && !(operand.memory instanceof JoinedParts)) return;
  throw new ArgumentError(
    "wgslOf",
    "an operand",
    "a view of a buffer (bufferOperand, GpuTensor.wrap)",
    operand.place === "heap" ? "a heap tensor" : "one that is joined from parts",
  );
}

/** Records ops as {@link Recorder} does, for a device that need not be there: nothing is compiled, and nothing runs. */
export class DescribingRecorder extends Recorder {
  readonly #kernels = new Map<string, CompiledKernel>();
  readonly #sources = new WeakMap<CompiledKernel, KernelSource>();
  readonly #operands = new WeakMap<Region, Operand>();
  readonly #fields = new WeakMap<Region, readonly WordField[]>();

  constructor({ limits, ...described }: DescribedDevice) {
    const nowhere = { ...described, name: "a device that is described", owned: true, release: async () => undefined };
    // Of a device, recording reads the limits alone.
    super({ ...nowhere, device: { limits } as GPUDevice }, new KernelContext());
  }

  override kernel(source: KernelSource): CompiledKernel {
    const known = this.#kernels.get(source.key);
    if (known !== undefined) return known;
    // It is not run, and so has neither a pipeline nor a layout.
    const kernel = { id: this.#kernels.size, bindings: source.bindings } as CompiledKernel;
    this.#kernels.set(source.key, kernel);
    this.#sources.set(kernel, source);
    return kernel;
  }

  override uniform(values: ArrayLike<number>): Region {
    const region = super.uniform(values);
    const fields = fieldsOf(values);
    if (fields !== undefined) this.#fields.set(region, fields);
    return region;
  }

  override read(operand: Operand): Region {
    expectInBuffer(operand);
    return this.#note(super.read(operand), operand);
  }

  override readStack(operands: readonly Operand[]): { region: Region; stride: number } {
    for (const operand of operands) expectInBuffer(operand);
    const stack = super.readStack(operands);
    const [first] = operands;
    if (first !== undefined) this.#note(stack.region, first);
    return stack;
  }

  override write(operand: Operand): Region {
    expectInBuffer(operand);
    return this.#note(super.write(operand), operand);
  }

  override update(operand: Operand): Region {
    expectInBuffer(operand);
    return this.#note(super.update(operand), operand);
  }

  /** Whose device a buffer is of is the caller's affair: this one is nobody's. */
  override expectOwn(): void {}

  /** What was recorded, once all of it was. */
  recording(): Recording {
    this.gatherOperands();
    const { commands, staging } = this.recorded;
    return {
      commands,
      staging,
      packsHalves: this.gpu.packsHalves,
      sourceOf: (kernel) => {
        const source = this.#sources.get(kernel);
        if (source === undefined) throw new RangeError("a kernel of another recorder");
        return source;
      },
      operandOf: (region) => this.#operands.get(region),
      fieldsOf: (region) => this.#fields.get(region),
    };
  }

  #note(region: Region, operand: Operand): Region {
    this.#operands.set(region, operand);
    return region;
  }
}
