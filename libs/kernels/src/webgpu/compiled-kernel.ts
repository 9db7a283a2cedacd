import type { GpuDevice } from "../device/gpu-device.ts";
import type { Verdicts } from "./verdicts.ts";
import type { Access } from "./wgsl-operands.ts";

/** How a kernel uses one of its bindings. */
export type BindingUse = Access | "uniform";

/** A compute pipeline and how it uses its bindings. Kept by the backend's KernelContext. */
export interface CompiledKernel {
  /** Tells kernels apart in keys of bind groups. */
  readonly id: number;
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  /** One per binding, in order. */
  readonly bindings: readonly BindingUse[];
}

/** What a kernel is made from. */
export interface KernelSource {
  /** Names the kernel and everything it is specialised for; the key in the KernelContext. */
  readonly key: string;
  readonly wgsl: () => string;
  readonly entryPoint: string;
  readonly bindings: readonly BindingUse[];
}

let nextId = 1;

/**
 * Values of the constants that a source leaves to its pipeline: see float-formats.wgsl, which not every one includes.
 */
export function overridesOf(code: string, packsHalves: boolean): Record<string, number> {
  return code.includes("override PACKS_HALVES") ? { PACKS_HALVES: packsHalves ? 1 : 0 } : {};
}

/** Compiles a kernel. If the device rejects it, `verdicts` will tell. */
export function compileKernel(gpu: GpuDevice, source: KernelSource, verdicts: Verdicts): CompiledKernel {
  const { key, entryPoint, bindings } = source;
  const { device, packsHalves } = gpu;
  return verdicts.guard(`rejected kernel ${key}`, () => {
    const code = source.wgsl();
    const module = device.createShaderModule({ label: key, code });
    const compute = { module, entryPoint, constants: overridesOf(code, packsHalves) };
    const pipeline = device.createComputePipeline({ label: key, layout: "auto", compute });
    return { id: nextId++, pipeline, layout: pipeline.getBindGroupLayout(0), bindings };
  });
}
