// How the rank programs of these tests open their backends.
import type { RankContext } from "@lockstep/dist-groups";
import { type BackendName, type KernelBackend, openBackend } from "@lockstep/kernels";
import { openSharedBackend } from "@lockstep/shared-gpu";
import { SharedHeap } from "@lockstep/tensor";

/**
 * "webgpu shared": rank 0 holds the device of all. "own": operands, and caches that no GPU holds, in own memories.
 * "invariant": batch-invariant. "webgpu and wasm": rank 0 has a GPU (batch-invariant), the others do not.
 */
export type TestBackend =
  | BackendName
  | "webgpu shared"
  | "wasm own"
  | "webgpu shared own"
  | "webgpu invariant"
  | "webgpu shared invariant"
  | "webgpu and wasm";

const OWN_BYTES = 64 << 20;

/** Opens a backend, on software Vulkan if it is a GPU's, and closes it with the world. */
export async function openTestBackend(context: RankContext, name: TestBackend): Promise<KernelBackend> {
  const { heap, world, rank } = context;
  const backend = await open();
  context.onClose(() => backend.close());
  return backend;

  function open(): Promise<KernelBackend> {
    switch (name) {
      case "webgpu shared":
      case "webgpu shared own":
        return openSharedBackend({ heap, group: world, adapter: "software" });
      case "webgpu shared invariant":
        return openSharedBackend({ heap, group: world, adapter: "software", batchInvariant: true });
      case "webgpu invariant":
        return openBackend("webgpu", { heap, adapter: "software", batchInvariant: true });
      case "webgpu and wasm":
        if (rank > 0) return openBackend("wasm", { heap });
        return openBackend("webgpu", { heap, adapter: "software", batchInvariant: true });
      case "wasm own":
        return openBackend("wasm", { heap, ownHeap: SharedHeap.create(OWN_BYTES) });
      default:
        return openBackend(name, { heap, adapter: "software" });
    }
  }
}

/** Where a rank keeps its operands: in memory that its peers reach or, in one that is not the caches' either. */
export function operandHeap({ heap }: RankContext, name: TestBackend): SharedHeap {
  return name === "wasm own" || name === "webgpu shared own" ? SharedHeap.create(OWN_BYTES) : heap;
}
