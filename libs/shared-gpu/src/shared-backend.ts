import { fromPlainError, type PlainError, type ProcessGroup, toPlainError } from "@lockstep/dist-groups";
import { type KernelBackend, type OpenBackendOptions, openBackend } from "@lockstep/kernels";
import { ArgumentError, describe, SharedHeap } from "@lockstep/tensor";
import { meet, newMessage, textOf } from "./meeting.ts";
import { ownerBackend } from "./owner-backend.ts";
import { peerBackend } from "./peer-backend.ts";

/**
 * How ranks share a GPU. The fields of {@link OpenBackendOptions} are for the owner, rank 0 of the group, and the same
 * on every rank; a `device` counts on the owner alone.
 */
export interface SharedBackendOptions extends Omit<OpenBackendOptions, "heap"> {
  /** This rank's range of the world's memory. */
  readonly heap: SharedHeap;
  /** The ranks that share the GPU, all of one process. */
  readonly group: ProcessGroup;
  /** Longest wait for the owner to open the device, in milliseconds. Default 120,000. */
  readonly openDeadlineMs?: number;
  /** Longest wait for the other ranks, and for the GPU, in an op, in milliseconds. Default: the group's. */
  readonly deadlineMs?: number;
}

/**
 * Opens a `webgpu` backend that all ranks of a group share: rank 0's worker holds the device and runs what the others
 * ask for. Ranks with a device each make a GPU switch between their contexts, which costs more than a small op; here
 * the same op of all ranks goes to the GPU in one submission, and all results come back in one map. Results have the
 * same bits either way.
 *
 * Every rank of the group calls this together, and then:
 * - Ops whose results lie in heap tensors, and `download` to one, are collective: every rank makes the same ones in the
 *   same order, empty ones included. They run when all have come, and have completed everywhere when they return.
 * - Other ops (`empty`, `upload`, cache writes, ops on GPU tensors alone) wait for nobody: they run before the next
 *   collective op. What only the device can object to is thrown there.
 * - An error of one rank's arguments is thrown on that rank alone; one of the device on all. When ranks call what does
 *   not go together, such as `show` and an op, all are told by `CallsDiffer`.
 * - `close` is for each rank alone, after its last op. Once the owner has closed, the others' collective ops time out.
 *
 * On ranks other than 0 collective ops block their thread.
 *
 * @throws BackendUnavailable on every rank when the device does not open; OptionsDisagree on every rank when they give
 *   different adapters, indexes, matrices or batchInvariant; ArgumentError, also for ranks of several processes; the group's errors when ranks do not come
 */
export async function openSharedBackend(options: SharedBackendOptions): Promise<KernelBackend> {
  checkOptions(options);
  const { heap, group, openDeadlineMs = 120_000, deadlineMs, ...deviceOptions } = options;
  if (group.size === 1) return openBackend("webgpu", { heap, ...deviceOptions });
  const { adapter, index, matrices, batchInvariant = false } = deviceOptions;
  group.agree("openSharedBackend", { adapter, index, matrices, batchInvariant }, { deadlineMs: openDeadlineMs });
  if (group.rank !== 0) {
    const opened = JSON.parse(awaitOwner(heap, group, openDeadlineMs)) as Opened;
    if ("error" in opened) throw fromPlainError(opened.error);
    return peerBackend({ device: opened.device, batchInvariant }, heap, group, deadlineMs);
  }
  const { backend, failure } = await openBackend("webgpu", { heap, ...deviceOptions }).then(
    (opened) => ({ backend: opened, failure: undefined }),
    (error: unknown) => ({ backend: undefined, failure: { error } }),
  );
  const opened: Opened = failure === undefined ? { device: backend.device } : { error: toPlainError(failure.error) };
  const told = newMessage(heap, "opened", JSON.stringify(opened));
  try {
    meet(group, "opened", told, () => undefined, openDeadlineMs);
  } catch (error) {
    await backend?.close();
    throw error;
  } finally {
    told.free();
  }
  if (failure !== undefined) throw failure.error;
  return ownerBackend(backend, heap, group, deadlineMs);
}

/** @throws ArgumentError unless the heap and the group are what they are called */
function checkOptions(options: SharedBackendOptions): void {
  const name = "openSharedBackend";
  if (typeof options !== "object" || options === null) {
    throw new ArgumentError(name, "options", "an object with a heap and a group", describe(options));
  }
  const { heap, group } = options;
  if (!(heap instanceof SharedHeap)) throw new ArgumentError(name, "heap", "a SharedHeap", describe(heap));
  const isGroup = typeof group === "object" && group !== null && typeof group.agree === "function";
  if (!isGroup) throw new ArgumentError(name, "group", "a ProcessGroup", describe(group));
  if (!group.sharesMemory) {
    const advice = "The rank that holds the device reads what the others compute on where it lies.";
    throw new ArgumentError(name, "group", "ranks of one process", `group "${group.name}" of several`, advice);
  }
}

type Opened = { readonly device: string } | { readonly error: PlainError };

function awaitOwner(heap: SharedHeap, group: ProcessGroup, deadlineMs: number): string {
  const nothing = newMessage(heap, "opened");
  try {
    return meet(group, "opened", nothing, ([owner]) => textOf(owner), deadlineMs);
  } finally {
    nothing.free();
  }
}
