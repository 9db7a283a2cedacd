// What a page does with its browser's WebGPU, shown on Dawn's.
import { expect, setDefaultTimeout, test } from "bun:test";
import { SharedHeap, Tensor } from "@lockstep/tensor";
import { webgpuBackendOn } from "../backends/webgpu-backend.ts";
import { BackendUnavailable } from "../errors.ts";
import { openDawn } from "./dawn.ts";
import { findInPage } from "./find-adapter.ts";
import { openOn } from "./gpu-device.ts";
import { addSoftwareVulkan } from "./vulkan-drivers.ts";
import { outcomeOf } from "../../../../tests/outcome-of.ts";

setDefaultTimeout(60_000);

test("a page's adapter serves without Dawn's toggles, with the features that it has", async () => {
  addSoftwareVulkan();
  const dawn = await openDawn();
  const { adapter, instance } = await findInPage("software", dawn.gpu);
  const gpu = await openOn(instance, adapter, "software", {});
  expect(gpu.matrixUnits).toBeUndefined();
  expect([...gpu.device.features].includes("subgroups")).toBe(adapter.features.has("subgroups"));
  const heap = SharedHeap.create(1 << 20);
  const backend = webgpuBackendOn(heap, gpu);
  const out = Tensor.empty(heap, "f32", [1, 3]);
  await backend.packSeq({ x: Tensor.from(heap, "f32", [3], [1, 2, 3]), lengths: [3], out });
  expect([...out.f32]).toEqual([1, 2, 3]);
  await backend.close();
  await dawn.release();
});

test("an adapter that tells nothing of itself counts as hardware, without subgroups and matrix units", async () => {
  const adapter = { features: new Set() } as unknown as GPUAdapter;
  const gpu = { requestAdapter: async () => adapter } as unknown as GPU;
  expect((await findInPage("hardware", gpu)).adapter).toBe(adapter);
  expect(await outcomeOf(findInPage("software", gpu))).toThrow(/no software adapter/);
});

test("no WebGPU, and no adapter, are errors that say what to do", async () => {
  const none = findInPage("hardware", undefined);
  expect(await outcomeOf(none)).toThrow(BackendUnavailable);
  expect(await outcomeOf(none)).toThrow(/navigator\.gpu.*https or on localhost, or the wasm backend/);
  const blocked = { requestAdapter: async () => null } as unknown as GPU;
  expect(await outcomeOf(findInPage("hardware", blocked))).toThrow(/offers no GPU here.*chrome:\/\/gpu/);
});
