import { ArgumentError, describe, describeName, SharedHeap } from "@lockstep/tensor";
import type { CallerGpuDevice } from "../device/caller-gpu.ts";
import { BackendUnavailable } from "../errors.ts";
import type { BackendName, KernelBackend } from "./backend.ts";
import { openReferenceBackend } from "./reference-backend.ts";
import { openWasmBackend } from "./wasm-backend.ts";

/** Where a backend computes. The fields after `ownHeap` are for the `webgpu` backend alone. */
export interface OpenBackendOptions {
  /** Operands lie in this heap's memory; a backend takes its scratch memory from it and returns it on close. */
  readonly heap: SharedHeap;
  /**
   * A heap in a memory that no other thread needs, for caches as large as it is: where `empty` and plans of the `wasm`
   * and `reference` backends take memory. Ops over caches run there, and copy operands that lie elsewhere. Of the
   * `webgpu` backend that is its device. Default: `heap`.
   */
  readonly ownHeap?: SharedHeap;
  /** Which adapters count. Default "hardware": software Vulkan is used only when it is asked for. */
  readonly adapter?: "hardware" | "software" | "any";
  /**
   * A `GPUDevice` to use instead of requesting one. It stays the caller's: closing the backend does not destroy it. Ops
   * are on its queue when their methods return, so that they run between what the caller submits before and after.
   */
  readonly device?: CallerGpuDevice;
  /**
   * Which GPU, from 0 in the order of `installedGpus`, where there are several: give it the rank, and ranks that
   * outnumber GPUs share them round-robin. Needs Mesa's device-select layer then. Default: the one that the system
   * prefers.
   */
  readonly index?: number;
  /**
   * "native": attention over an f16 cache uses a GPU's matrix units where it has them, which rounds the softmax weights
   * to f16. "off": always f32 arithmetic. Default "native".
   */
  readonly matrices?: "native" | "off";
  /**
   * true: a row's bits depend on its own tokens alone, as they always do on the other backends, at the cost of speed:
   * attention is cut at fixed keys, by one kernel, without matrix units. false: the fastest for each step. Default
   * false.
   */
  readonly batchInvariant?: boolean;
}

/**
 * Opens a backend over `heap`.
 *
 * "auto" is `webgpu` where there is a hardware adapter and `wasm` elsewhere; with `adapter` or `device` given it is
 * `webgpu` with that. A backend that was asked for by name and cannot run is an error, never another backend.
 *
 * @throws BackendUnavailable when the backend cannot run here; ArgumentError for an unknown name.
 */
export async function openBackend(name: BackendName | "auto", options: OpenBackendOptions): Promise<KernelBackend> {
  checkOptions(options);
  switch (name) {
    case "reference":
      return openReferenceBackend(options);
    case "wasm":
      return openWasmBackend(options);
    case "webgpu":
      return openWebgpu(options);
    case "auto":
      return openAuto(options);
    default:
      throw new ArgumentError("openBackend", "name", '"webgpu", "wasm", "reference" or "auto"', describeName(name));
  }
}

function checkOptions(options: OpenBackendOptions): void {
  const name = "openBackend";
  if (typeof options !== "object" || options === null) {
    throw new ArgumentError(name, "options", "an object with a heap", describe(options));
  }
  const { heap, ownHeap, adapter, index, matrices, batchInvariant, device } = options;
  if (!(heap instanceof SharedHeap)) throw new ArgumentError(name, "heap", "a SharedHeap", describe(heap));
  if (ownHeap !== undefined && !(ownHeap instanceof SharedHeap)) {
    throw new ArgumentError(name, "ownHeap", "a SharedHeap", describe(ownHeap));
  }
  if (adapter !== undefined && !["hardware", "software", "any"].includes(adapter)) {
    throw new ArgumentError(name, "adapter", '"hardware", "software" or "any"', describe(adapter));
  }
  if (index !== undefined && (!Number.isSafeInteger(index) || index < 0)) {
    throw new ArgumentError(name, "index", "a non-negative integer", describe(index));
  }
  if (matrices !== undefined && !["native", "off", "emulated"].includes(matrices)) {
    throw new ArgumentError(name, "matrices", '"native" or "off"', describe(matrices));
  }
  if (batchInvariant !== undefined && typeof batchInvariant !== "boolean") {
    throw new ArgumentError(name, "batchInvariant", "true or false", describe(batchInvariant));
  }
  if (device !== undefined && (typeof device !== "object" || device === null)) {
    throw new ArgumentError(name, "device", "a GPUDevice", describe(device));
  }
}

async function openAuto(options: OpenBackendOptions): Promise<KernelBackend> {
  if (options.adapter !== undefined || options.device !== undefined) return openWebgpu(options);
  try {
    return await openWebgpu({ ...options, adapter: "hardware" });
  } catch (error) {
    if (!(error instanceof BackendUnavailable)) throw error;
    return openWasmBackend(options);
  }
}

async function openWebgpu(options: OpenBackendOptions): Promise<KernelBackend> {
  // Imported when wanted, so that nothing else pays for loading Dawn.
  const { openWebgpuBackend } = await import("./webgpu-backend.ts");
  const { device, ...rest } = options;
  return openWebgpuBackend(device === undefined ? rest : { ...rest, device: device as GPUDevice });
}
