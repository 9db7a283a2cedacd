import { placementOf, type RankContext } from "@lockstep/dist-groups";
import { type BackendName, BackendUnavailable, type KernelBackend, openBackend } from "@lockstep/kernels";
import { openSharedBackend } from "@lockstep/shared-gpu";
import type { SharedHeap } from "@lockstep/tensor";

/** Which backend the ranks have, and where. */
export interface RankBackendOptions {
  readonly backend: BackendName | "auto";
  readonly softwareVulkan: boolean;
  readonly gpus: number;
  readonly sharedGpu: boolean;
  /** As of `openBackend`, for a GPU. */
  readonly batchInvariant: boolean;
  /** Whether "auto" may be wasm where no GPU can be used: there is room for the KV cache then. */
  readonly canFallBack: boolean;
}

/**
 * The ranks of each GPU, dealt round-robin, of each process apart, since only ranks of one process can share a device:
 * the group "gpu" of a world.
 */
export function gpuGroups(ranks: number, gpus: number, { processes } = placementOf(ranks)): number[][] {
  return processes.flatMap((own) =>
    Array.from({ length: gpus }, (_, gpu) => own.filter((rank) => rank % gpus === gpu)).filter(({ length }) => length),
  );
}

/**
 * The backend that attends, and one that merges partial outputs where they lie: in the shared heap. Closed with the
 * world.
 * @param cacheHeap makes the memory where the KV cache lies, unless that is on a GPU
 */
export async function openRankBackend(
  context: RankContext,
  options: RankBackendOptions,
  cacheHeap: () => SharedHeap,
): Promise<{ attend: KernelBackend; merge: KernelBackend }> {
  const attend = await openAttending(context, options, cacheHeap);
  context.onClose(() => attend.close());
  if (attend.isSynchronous) return { attend, merge: attend };
  const merge = await openBackend("wasm", { heap: context.heap });
  context.onClose(() => merge.close());
  return { attend, merge };
}

async function openAttending(
  { heap, rank, group }: RankContext,
  { backend, softwareVulkan, gpus, sharedGpu, batchInvariant, canFallBack }: RankBackendOptions,
  cacheHeap: () => SharedHeap,
): Promise<KernelBackend> {
  const gpu = {
    batchInvariant,
    ...(gpus > 1 ? { index: rank % gpus } : {}),
    ...(softwareVulkan ? { adapter: "any" as const } : {}),
  };
  const isOfHeap = backend === "wasm" || backend === "reference";
  if (isOfHeap && !sharedGpu) return openBackend(backend, { heap, ownHeap: cacheHeap() });
  try {
    if (sharedGpu) return await openSharedBackend({ heap, group: group("gpu"), ...gpu });
    return await openBackend("webgpu", { heap, ...gpu });
  } catch (error) {
    if (!canFallBack || !(error instanceof BackendUnavailable)) throw error;
    return openBackend("wasm", { heap, ownHeap: cacheHeap() });
  }
}
