/** Which adapters will do: a GPU, a CPU that plays one (for tests), or a GPU if there is one. */
export type AdapterKind = "hardware" | "software" | "any";

const SOFTWARE_NAMES = /swiftshader|llvmpipe|lavapipe|softpipe|basic render/i;

/** True for adapters that run on the CPU: SwiftShader, llvmpipe and their like. */
export function isSoftwareAdapter(info: GPUAdapterInfo): boolean {
  return info.isFallbackAdapter || SOFTWARE_NAMES.test(`${info.architecture} ${info.device} ${info.description}`);
}

/** The adapter's name for people, such as "NVIDIA H200 (nvidia hopper)"; its driver's version is left out. */
export function describeAdapter(info: GPUAdapterInfo): string {
  const family = [info.vendor, info.architecture].filter((word) => word !== "").join(" ");
  // A device is named by a number on some systems, and a description can be that of the driver alone.
  const names = [info.device, info.description].filter((name) => name !== "" && !/^(0x)?[0-9a-f]+$|driver/i.test(name));
  const [name] = names;
  if (name === undefined) return family === "" ? "unnamed GPU" : family;
  const isTold = [info.vendor, info.architecture].every((word) => name.toLowerCase().includes(word.toLowerCase()));
  return isTold ? name : `${name} (${family})`;
}

/** The best adapter of a kind, or undefined. */
export async function requestAdapter(gpu: GPU, kind: "hardware" | "software"): Promise<GPUAdapter | undefined> {
  const wantsSoftware = kind === "software";
  const adapter = await gpu.requestAdapter(
    wantsSoftware ? { forceFallbackAdapter: true } : { powerPreference: "high-performance" },
  );
  if (adapter === null) return undefined;
  // Some browsers tell nothing of their adapters.
  const info = adapter.info as GPUAdapterInfo | undefined;
  return (info !== undefined && isSoftwareAdapter(info)) === wantsSoftware ? adapter : undefined;
}
