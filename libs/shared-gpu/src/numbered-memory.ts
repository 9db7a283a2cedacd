import type { RemoteGpuMemory } from "@lockstep/kernels";

/** Memory that a rank asked the owner of the device for, under a number that all ranks know it by. */
export class NumberedMemory implements RemoteGpuMemory {
  readonly isRemote = true;
  /** Within the group. */
  readonly rank: number;
  readonly id: number;
  /** In bytes. */
  readonly size: number;

  constructor(rank: number, id: number, size: number) {
    this.rank = rank;
    this.id = id;
    this.size = size;
  }
}
