import { BackendUnavailable } from "../errors.ts";
import { setCEnvironment, unsetCEnvironment } from "./c-environment.ts";
import { type InstalledGpu, installedGpus } from "./installed-gpus.ts";
import { withProcessLock } from "./process-lock.ts";
import { vulkanManifests } from "./vulkan-drivers.ts";

const LAYER = /device_select.*\.json$/i;
const LAYER_ADVICE =
  "Install Mesa's device-select layer (Debian: mesa-vulkan-drivers), or use one GPU, without an index.";

/** What there is to choose from. */
export interface GpuChoice {
  readonly gpus: readonly InstalledGpu[];
  /** Whether the device-select layer is installed. */
  readonly hasLayer: boolean;
}

/**
 * Runs `open`, which asks Vulkan for an adapter, so that it finds GPU number `index`, modulo their number; any when
 * `index` is undefined or there is one GPU. Identical GPUs cannot be told apart through WebGPU: Mesa's device-select
 * layer, which works with every vendor's driver, shows Vulkan only the one that the process's environment names. One
 * thread at a time.
 *
 * @throws BackendUnavailable when there are several GPUs and the layer is not installed
 */
export async function withGpuSelected<T>(
  index: number | undefined,
  open: () => Promise<T>,
  { gpus, hasLayer }: GpuChoice = { gpus: installedGpus(), hasLayer: hasSelectLayer() },
): Promise<T> {
  if (gpus.length < 2) return open();
  const gpu = index === undefined ? undefined : gpus[index % gpus.length];
  if (gpu !== undefined && !hasLayer) {
    const reason = `there are ${gpus.length} GPUs, and GPU ${gpus.indexOf(gpu)} cannot be singled out`;
    throw new BackendUnavailable("webgpu", reason, LAYER_ADVICE);
  }
  // Without an index too: no other thread's choice may be in the environment.
  return withProcessLock("select-gpu", () => (gpu === undefined ? open() : selected(gpu, open)));
}

/** True where the Vulkan loader finds the layer. */
function hasSelectLayer(): boolean {
  return vulkanManifests("implicit_layer.d").some((file) => LAYER.test(file));
}

/** Variables that the layer reads, for a GPU. */
function selection({ address }: InstalledGpu): Readonly<Record<string, string>> {
  return {
    DRI_PRIME: `pci-${address.replaceAll(/[:.]/g, "_")}`,
    MESA_VK_DEVICE_SELECT_FORCE_DEFAULT_DEVICE: "1",
  };
}

async function selected<T>(gpu: InstalledGpu, open: () => Promise<T>): Promise<T> {
  const before = Object.entries(selection(gpu)).map(([name, value]) => [name, setCEnvironment(name, value)] as const);
  try {
    return await open();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) unsetCEnvironment(name);
      else setCEnvironment(name, value);
    }
  }
}
