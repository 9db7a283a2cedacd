// Imports nothing: the script that installs SwiftShader reads this before the workspace's packages are there.

/** What is asked of the machine. */
export interface Machine {
  /** True for the path of a file. */
  exists(path: string): boolean;
  /** The environment variable LOCKSTEP_SWIFTSHADER_ICD. */
  readonly chosen: string | undefined;
}

/**
 * Where SwiftShader, a Vulkan driver that runs on the CPU, is found: the manifest for the Vulkan loader. Debian's
 * `chromium-common` ships it; browsers elsewhere keep it beside their binary.
 */
const MANIFESTS = [
  "/usr/lib/chromium/vk_swiftshader_icd.json",
  "/usr/lib/chromium-browser/vk_swiftshader_icd.json",
  "/usr/lib64/chromium-browser/vk_swiftshader_icd.json",
  "/opt/google/chrome/vk_swiftshader_icd.json",
];

/** The Vulkan loader itself, which opens the driver that a manifest names. */
const LOADERS = [
  "/usr/lib/x86_64-linux-gnu/libvulkan.so.1",
  "/usr/lib/aarch64-linux-gnu/libvulkan.so.1",
  "/usr/lib64/libvulkan.so.1",
  "/usr/lib/libvulkan.so.1",
];

/** What to install for software Vulkan. */
export const SOFTWARE_VULKAN_ADVICE =
  "Install SwiftShader and the Vulkan loader (Debian: apt-get install --no-install-recommends chromium-common " +
  "libvulkan1), or set LOCKSTEP_SWIFTSHADER_ICD to the path of vk_swiftshader_icd.json";

/** Path of SwiftShader's manifest, `LOCKSTEP_SWIFTSHADER_ICD` first; undefined when there is none. */
export function findSwiftShader({ exists, chosen }: Machine): string | undefined {
  if (chosen !== undefined && chosen !== "") return exists(chosen) ? chosen : undefined;
  return MANIFESTS.find((path) => exists(path));
}

/** True when a Vulkan loader lies in one of the usual places. */
export function hasVulkanLoader({ exists }: Machine): boolean {
  return LOADERS.some((path) => exists(path));
}
