import { watchDawn } from "./watch-dawn.ts";

/** A copy from buffer to buffer on a GPU. */
export interface GpuCopy {
  /** The labels of the buffers; empty for one that has none. */
  readonly from: string;
  readonly to: string;
  readonly bytes: number;
}

/** The copies from buffer to buffer that are recorded while `run` runs, in their order. */
export async function countCopies(run: () => Promise<void>): Promise<GpuCopy[]> {
  const copies: GpuCopy[] = [];
  const seen = ([from, , to, , bytes]: readonly unknown[]): void => {
    copies.push({ from: (from as GPUBuffer).label, to: (to as GPUBuffer).label, bytes: Number(bytes) });
  };
  await watchDawn([["GPUCommandEncoder", "copyBufferToBuffer", seen]], run);
  return copies;
}
