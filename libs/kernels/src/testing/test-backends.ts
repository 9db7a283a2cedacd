import { afterAll } from "bun:test";
import type { SharedHeap } from "@lockstep/tensor";
import type { KernelBackend } from "../backends/backend.ts";
import { openBackend } from "../backends/open-backend.ts";

/**
 * Every backend, for tests that hold all of them to one table; `webgpu` on software Vulkan, or on a GPU with
 * LOCKSTEP_TEST_ADAPTER=hardware. Closed after the file.
 */
export async function openTestBackends(heap: SharedHeap): Promise<KernelBackend[]> {
  const onHardware = process.env.LOCKSTEP_TEST_ADAPTER === "hardware";
  const backends = [
    await openBackend("reference", { heap }),
    await openBackend("wasm", { heap }),
    await openBackend("webgpu", { heap, adapter: onHardware ? "hardware" : "software" }),
  ];
  afterAll(async () => {
    for (const backend of backends) await backend.close();
  });
  return backends;
}
