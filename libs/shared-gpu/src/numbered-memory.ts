import type { RemoteGpuMemory } from "@lockstep/kernels";

/** Memory that this rank asked the owner of the device for, under a number that the two of them know it by. */
export class NumberedMemory implements RemoteGpuMemory {
  readonly isRemote = true;
  readonly id: number;
  /** In bytes. */
  readonly size: number;

  constructor(id: number, size: number) {
    this.id = id;
    this.size = size;
  }
}
