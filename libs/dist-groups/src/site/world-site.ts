import type { SharedHeap } from "@lockstep/tensor";
import type { RankPlace } from "../rank/rank-place.ts";
import { isRankNotice } from "../rank/rank-protocol.ts";
import type { HostTransport } from "../transport/world-transport.ts";
import type { StagedLimits } from "./staged-limits.ts";
import type { WebWorkerLike } from "./worker-like.ts";

/**
 * Where the ranks of a world live: in workers of this process, or in those of several processes. It owns the memory of
 * this process's ranks, and what carries their groups.
 */
export interface WorldSite {
  /** Ranks of each process, this one's first. */
  readonly processes: readonly (readonly number[])[];
  /** The host's own range of this process's memory. */
  readonly heap: SharedHeap;
  readonly transport: HostTransport;
  readonly stagedLimits: StagedLimits;
  /** Gets ready to start workers. */
  prepare(): Promise<void>;
  /** Starts the worker of a rank, which has its place before it says that it is ready. */
  startWorker(rank: number): WebWorkerLike;
  /** No worker runs any more: gives everything back. */
  close(): Promise<void>;
}

/**
 * Brings a worker that has just been started its place, as soon as it listens. To be called before anybody else listens
 * to the worker: then nothing reaches it before.
 */
export function givePlace(worker: WebWorkerLike, place: RankPlace): void {
  let unplaced: RankPlace | undefined = place;
  worker.addEventListener("message", (event) => {
    const data: unknown = Reflect.get(event, "data");
    if (unplaced === undefined || !isRankNotice(data) || data.lockstep !== "ready") return;
    worker.postMessage({ lockstep: "place", place: unplaced }, []);
    // A worker must not hold the memory of its world once it has ended.
    unplaced = undefined;
  });
}
