import { expect, setDefaultTimeout, test } from "bun:test";
import { BackendUnavailable } from "../errors.ts";
import { isSoftwareAdapter } from "./adapter.ts";
import { openGpuDevice } from "./gpu-device.ts";
import { outcomeOf } from "../../../../tests/outcome-of.ts";

setDefaultTimeout(120_000);

test("software Vulkan opens on request, says that it is software, and has its subgroups found", async () => {
  const gpu = await openGpuDevice({ adapter: "software" });
  expect(gpu.software).toBe(true);
  expect(gpu.name).toMatch(/swiftshader|llvmpipe/i);
  expect([0, 4, 8]).toContain(gpu.subgroupWidth);
  expect(gpu.owned).toBe(true);
  await gpu.release();
  expect((await gpu.device.lost).reason).toBe("destroyed");
});

test("by default software does not count", async () => {
  try {
    const gpu = await openGpuDevice();
    expect(gpu.software).toBe(false);
    await gpu.release();
  } catch (error) {
    expect(error).toBeInstanceOf(BackendUnavailable);
    expect(String(error)).toMatch(/no GPU was found.*Vulkan driver.*wasm backend/);
  }
});

test("any adapter: there is always one where software Vulkan is installed", async () => {
  const gpu = await openGpuDevice({ adapter: "any" });
  expect(gpu.name).not.toBe("");
  await gpu.release();
});

test("a caller's device is wrapped and left alive, also when it has no subgroups", async () => {
  const owner = await openGpuDevice({ adapter: "software" });
  const gpu = await openGpuDevice({ device: owner.device, subgroups: false });
  expect(gpu.device).toBe(owner.device);
  expect(gpu.owned).toBe(false);
  expect(gpu.subgroupWidth).toBe(0);
  await gpu.release();
  const lost = await Promise.race([owner.device.lost, new Promise((resolve) => setTimeout(resolve, 20, "alive"))]);
  expect(lost).toBe("alive");
  await owner.release();
});

test("missing software Vulkan is an error that says what to install", async () => {
  const before = process.env.LOCKSTEP_SWIFTSHADER_ICD;
  process.env.LOCKSTEP_SWIFTSHADER_ICD = "/nowhere/vk_swiftshader_icd.json";
  try {
    const opening = openGpuDevice({ adapter: "software" });
    expect(await outcomeOf(opening)).toThrow(BackendUnavailable);
    expect(await outcomeOf(opening)).toThrow(/not installed.*chromium-common libvulkan1/);
  } finally {
    if (before === undefined) delete process.env.LOCKSTEP_SWIFTSHADER_ICD;
    else process.env.LOCKSTEP_SWIFTSHADER_ICD = before;
  }
});

test("software adapters are told by their names or by the fallback mark", () => {
  const info = (fields: Partial<GPUAdapterInfo>): GPUAdapterInfo =>
    ({
      vendor: "",
      architecture: "",
      device: "",
      description: "",
      isFallbackAdapter: false,
      ...fields,
    }) as GPUAdapterInfo;
  expect(isSoftwareAdapter(info({ architecture: "swiftshader" }))).toBe(true);
  expect(isSoftwareAdapter(info({ description: "llvmpipe (LLVM 15.0.6, 256 bits)" }))).toBe(true);
  expect(isSoftwareAdapter(info({ isFallbackAdapter: true }))).toBe(true);
  expect(isSoftwareAdapter(info({ vendor: "nvidia", description: "NVIDIA H200" }))).toBe(false);
});
