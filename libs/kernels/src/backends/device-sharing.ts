import type { GpuTensor } from "../gpu-tensor.ts";

/**
 * What ranks that share one device can do with each other's memory there. Every rank that shares it makes the same
 * calls in the same order.
 */
export interface DeviceSharing {
  /** World ranks of those that share the device. */
  readonly ranks: readonly number[];

  /**
   * Shows tensors on the device to the other ranks. They are still the rank's that made them: it frees them.
   * @param make makes what this rank shows, by this backend's `empty`; what it throws is told to all
   * @returns every rank's, in the order of {@link DeviceSharing.ranks}, for ops of this rank's backend
   * @throws on every rank when `make` throws on one of them, or there is not so much memory; the group's errors
   */
  show(make: () => readonly GpuTensor[]): Promise<readonly (readonly GpuTensor[])[]>;

  /**
   * Ops that any rank called before its fence run before those that any rank calls after its own. Nobody waits for it:
   * ops go on being collected, until one has heap results or there are many. When one of them fails, those behind the
   * fence are not run, and every rank is told with the next op that has heap results, or the next fence.
   */
  fence(): Promise<void> | undefined;
}
