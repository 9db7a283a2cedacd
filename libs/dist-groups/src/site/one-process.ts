import { SharedHeap } from "@lockstep/tensor";
import { compileReduceKernels } from "../reduction/reduce.ts";
import { SharedMemoryHost, STAGING_STEP_BYTES } from "../transport/shared-memory/host-end.ts";
import type { HostTransport } from "../transport/world-transport.ts";
import { type MemoryLayout, memoryLayout } from "./memory-layout.ts";
import { startWorker } from "./rank-thread.ts";
import {
  checkStagingBytes,
  chooseStagedLimits,
  DEFAULT_STAGING_BYTES,
  limitsInSharedMemory,
  type StagedLimits,
} from "./staged-limits.ts";
import type { WebWorkerLike } from "./worker-like.ts";
import { givePlace, type WorldSite } from "./world-site.ts";
import type { WorldSettings } from "./world-settings.ts";

/** A world whose ranks are workers of this process and share one memory. */
export class OneProcess implements WorldSite {
  readonly processes: readonly (readonly number[])[];
  readonly heap: SharedHeap;
  readonly transport: HostTransport;
  readonly stagedLimits: StagedLimits;
  readonly #host: SharedMemoryHost;
  readonly #settings: WorldSettings;
  readonly #layout: MemoryLayout;
  #reduceKernels: object | undefined;

  constructor(settings: WorldSettings) {
    const { size } = settings;
    const layout = memoryLayout(size, settings.heapBytesPerRank, settings.heapBytesHost);
    const { control, host } = layout;
    const stagingBytes = settings.stagingBytes ?? DEFAULT_STAGING_BYTES;
    const mostStagingBytes = SharedMemoryHost.mostStagingBytes(size, control.bytes);
    checkStagingBytes(stagingBytes, size, STAGING_STEP_BYTES, mostStagingBytes);
    const whole = SharedHeap.create(layout.totalBytes);
    const controlHeap = SharedHeap.range(whole.id, whole.memory, control.start, control.bytes);
    this.processes = [Array.from({ length: size }, (_, rank) => rank)];
    this.heap = SharedHeap.range(whole.id, whole.memory, host.start, host.bytes);
    const limits = limitsInSharedMemory(size, navigator.hardwareConcurrency);
    this.stagedLimits = chooseStagedLimits(settings.stagedLimit, stagingBytes, limits);
    this.#host = new SharedMemoryHost(controlHeap, size, stagingBytes, settings.initialProgress ?? 0);
    this.transport = this.#host;
    this.#settings = settings;
    this.#layout = layout;
  }

  async prepare(): Promise<void> {
    this.#reduceKernels = await compileReduceKernels();
  }

  startWorker(rank: number): WebWorkerLike {
    const worker = startWorker(rank, this.#settings);
    givePlace(worker, {
      cores: navigator.hardwareConcurrency,
      memory: this.heap.memory,
      memoryId: this.heap.id,
      heap: this.#layout.ranks[rank] ?? { start: 0, bytes: 0 },
      reduceKernels: this.#reduceKernels ?? {},
      transport: { kind: "shared-memory", ...this.#host.invitation },
    });
    return worker;
  }

  async close(): Promise<void> {}
}
