/** Which adapters will do: a GPU, a CPU that plays one (for tests), or a GPU if there is one. */
export type AdapterKind = "hardware" | "software" | "any";

const SOFTWARE_NAMES = /swiftshader|llvmpipe|lavapipe|softpipe|basic render/i;

/** True for adapters that run on the CPU: SwiftShader, llvmpipe and their like. */
export function isSoftwareAdapter(info: GPUAdapterInfo): boolean {
  return info.isFallbackAdapter || SOFTWARE_NAMES.test(`${info.architecture} ${info.device} ${info.description}`);
}

/** The adapter's name for people. */
export function describeAdapter(info: GPUAdapterInfo): string {
  const names = [info.description, info.device, info.architecture, info.vendor];
  return names.find((name) => name !== undefined && name !== "") ?? "unnamed GPU";
}

/** The best adapter of a kind, or undefined. */
export async function requestAdapter(gpu: GPU, kind: "hardware" | "software"): Promise<GPUAdapter | undefined> {
  const wantsSoftware = kind === "software";
  const adapter = await gpu.requestAdapter(
    wantsSoftware ? { forceFallbackAdapter: true } : { powerPreference: "high-performance" },
  );
  return adapter !== null && isSoftwareAdapter(adapter.info) === wantsSoftware ? adapter : undefined;
}
