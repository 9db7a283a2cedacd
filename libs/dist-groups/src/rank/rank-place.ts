import type { WasmMemory } from "@lockstep/tensor";
import type { MpiInvitation } from "../transport/mpi/rank-end.ts";
import type { SharedMemoryInvitation } from "../transport/shared-memory/host-end.ts";

/** A range of a process's memory. */
export interface MemoryRange {
  readonly start: number;
  readonly bytes: number;
}

/**
 * What a rank gets from its own process, before the host starts it: handles of memory and of compiled code mean nothing
 * elsewhere.
 */
export interface RankPlace {
  /** Ranks that can run at the same time. */
  readonly cores: number;
  readonly memory: WasmMemory;
  readonly memoryId: string;
  readonly heap: MemoryRange;
  /** The compiled `WebAssembly.Module` of the reduction kernels. */
  readonly reduceKernels: object;
  /** What carries its groups, and what the rank's end of that needs. */
  readonly transport:
    | ({ readonly kind: "shared-memory" } & SharedMemoryInvitation)
    | ({ readonly kind: "mpi" } & MpiInvitation);
}

/** The message, outside Comlink, that brings a rank its place. */
export interface PlaceNotice {
  readonly lockstep: "place";
  readonly place: RankPlace;
}

export function isPlaceNotice(data: unknown): data is PlaceNotice {
  return typeof data === "object" && data !== null && Reflect.get(data, "lockstep") === "place";
}
