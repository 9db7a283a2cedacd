import type { GpuDevice } from "../device/gpu-device.ts";
import { DeviceError } from "../errors.ts";
import type { Access } from "./wgsl-operands.ts";

/** A compute pipeline and how it uses its bindings. Kept by the backend's KernelContext. */
export interface CompiledKernel {
  /** Counts the kernels of one device: names this one in keys of bind groups. */
  readonly id: number;
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  /** One per binding, in order; "uniform" for parameters. */
  readonly bindings: readonly (Access | "uniform")[];
}

/** What a kernel is made from. */
export interface KernelSource {
  /** Names the kernel and everything it is specialised for; the key in the KernelContext. */
  readonly key: string;
  readonly wgsl: () => string;
  readonly entryPoint: string;
  readonly bindings: readonly (Access | "uniform")[];
}

let nextId = 1;

/** Compiles a kernel. The device's verdict comes later, through `reject`. */
export function compileKernel(
  gpu: GpuDevice,
  source: KernelSource,
  expectVerdict: (verdict: Promise<DeviceError | undefined>) => void,
): CompiledKernel {
  const { device } = gpu;
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ label: source.key, code: source.wgsl() });
  const pipeline = device.createComputePipeline({
    label: source.key,
    layout: "auto",
    compute: { module, entryPoint: source.entryPoint },
  });
  const layout = pipeline.getBindGroupLayout(0);
  expectVerdict(
    device
      .popErrorScope()
      .then((error) =>
        error === null ? undefined : new DeviceError(gpu.name, `rejected kernel ${source.key}: ${error.message}`),
      ),
  );
  return { id: nextId++, pipeline, layout, bindings: source.bindings };
}
