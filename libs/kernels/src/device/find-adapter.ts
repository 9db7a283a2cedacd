import { RUNTIME } from "@lockstep/tensor";
import { BackendUnavailable } from "../errors.ts";
import { requestAdapter } from "./adapter.ts";
import { openDawn } from "./dawn.ts";
import type { GpuInstance } from "./gpu-instance.ts";
import { withGpuSelected } from "./select-gpu.ts";
import { SOFTWARE_VULKAN_ADVICE } from "./swiftshader.ts";
import { addSoftwareVulkan, mayHaveVulkanDriver, setRuntimeFolder } from "./vulkan-drivers.ts";

/** An adapter, and the instance that it is of. */
export interface FoundAdapter {
  readonly instance: GpuInstance;
  readonly adapter: GPUAdapter;
}

/** Which adapter to look for. */
export interface AdapterWanted {
  /** As in GpuDeviceOptions. */
  readonly index?: number;
  /** As in GpuDeviceOptions. */
  readonly dawnOptions?: readonly string[];
}

/**
 * Dawn's toggles. Kernels here write workgroup memory before they read it; zeroing it first costs time, and software
 * compilers seconds. On hardware accesses are not clamped either (up to a quarter of a kernel's time): every index
 * follows from shapes, lengths, slots and block tables that the ops have checked. Software Vulkan keeps the clamps.
 * Matrix units are an unsafe API to Dawn as long as WGSL for them may change, and f16 needs asking for on NVIDIA.
 */
export const DAWN_TOGGLES = {
  hardware: ["disable_workgroup_init", "disable_robustness", "allow_unsafe_apis", "vulkan_enable_f16_on_nvidia"],
  software: ["disable_workgroup_init"],
} as const;

/**
 * An adapter of the browser's WebGPU in a browser, and of Dawn's elsewhere.
 * @throws BackendUnavailable, with what to install, when there is none
 */
export function findAdapter(kind: "hardware" | "software", wanted: AdapterWanted): Promise<FoundAdapter> {
  return RUNTIME === "browser" ? findInPage(kind) : findByDawn(kind, wanted).catch(throwDenied);
}

/** What Deno keeps from a program that was given no leave is one more reason to have no GPU. */
function throwDenied(error: unknown): never {
  if (!(error instanceof Error) || error.name !== "NotCapable") throw error;
  const advice = "Give it leave to find drivers and to load native libraries (deno run -A), or use the wasm backend.";
  throw new BackendUnavailable("webgpu", `Deno keeps it from this program (${error.message})`, advice);
}

/** An adapter of a browser's WebGPU. Exported for its test. */
export async function findInPage(
  kind: "hardware" | "software",
  gpu = globalThis.navigator?.gpu as GPU | undefined,
): Promise<FoundAdapter> {
  if (gpu === undefined || gpu === null) {
    const advice = "Use a browser that has it, over https or on localhost, or the wasm backend.";
    throw new BackendUnavailable("webgpu", "this page has no WebGPU (navigator.gpu)", advice);
  }
  const adapter = await requestAdapter(gpu, kind);
  if (adapter !== undefined) return { adapter, instance: { gpu, release: async () => undefined } };
  const name = kind === "hardware" ? "no GPU" : "no software adapter";
  const advice =
    "See whether the browser blocks this GPU (chrome://gpu, about:support), or use the wasm backend. " +
    'An adapter that computes on the CPU is taken only when asked for: adapter: "software".';
  throw new BackendUnavailable("webgpu", `the browser offers ${name} here`, advice);
}

async function findByDawn(kind: "hardware" | "software", wanted: AdapterWanted): Promise<FoundAdapter> {
  if (kind === "software") addSoftwareVulkan();
  else if (!mayHaveVulkanDriver()) throw noAdapter(kind);
  setRuntimeFolder();
  const ask = async (): Promise<FoundAdapter> => {
    const toggles = wanted.dawnOptions ?? [`enable-dawn-features=${DAWN_TOGGLES[kind].join(",")}`];
    const instance = await openDawn([...toggles]);
    try {
      const adapter = await requestAdapter(instance.gpu, kind);
      if (adapter === undefined) throw noAdapter(kind);
      return { instance, adapter };
    } catch (error) {
      await instance.release();
      throw error;
    }
  };
  return kind === "hardware" ? withGpuSelected(wanted.index, ask) : ask();
}

function noAdapter(kind: "hardware" | "software"): BackendUnavailable {
  return kind === "hardware"
    ? new BackendUnavailable(
        "webgpu",
        "no GPU was found",
        "Install the GPU's Vulkan driver and the Vulkan loader (Debian: libvulkan1), or use the wasm backend.",
      )
    : new BackendUnavailable("webgpu", "software Vulkan does not start", `${SOFTWARE_VULKAN_ADVICE}.`);
}
