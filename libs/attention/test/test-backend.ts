// How the rank programs of these tests open their backends.
import type { RankContext } from "@lockstep/dist-groups";
import { type BackendName, type KernelBackend, openBackend } from "@lockstep/kernels";
import { openSharedBackend } from "@lockstep/shared-gpu";

/** "webgpu shared": rank 0 holds the device of all. */
export type TestBackend = BackendName | "webgpu shared";

/** Opens a backend, on software Vulkan if it is a GPU's, and closes it with the world. */
export async function openTestBackend(context: RankContext, name: TestBackend): Promise<KernelBackend> {
  const { heap, world } = context;
  const backend =
    name === "webgpu shared"
      ? await openSharedBackend({ heap, group: world, adapter: "software" })
      : await openBackend(name, { heap, adapter: "software" });
  context.onClose(() => backend.close());
  return backend;
}
