import { watchDawn } from "./watch-dawn.ts";

/** Bytes that crossed between the host and GPUs. */
export interface CrossedBytes {
  /** By `writeBuffer`. */
  up: number;
  /** In mapped ranges. */
  down: number;
}

/**
 * Counts bytes of Dawn's uploads and maps while `run` runs, on every device of this thread. Uploads of 256 KiB or more,
 * which go by mapped memory, count as `down`: for small steps only.
 */
export async function countBytes(run: () => Promise<void>): Promise<CrossedBytes> {
  const bytes: CrossedBytes = { up: 0, down: 0 };
  const up = ([, , data, , size]: readonly unknown[]): void => {
    bytes.up += typeof size === "number" ? size : (data as ArrayBuffer).byteLength;
  };
  const down = ([, , size]: readonly unknown[]): void => {
    if (typeof size === "number") bytes.down += size;
  };
  await watchDawn(
    [
      ["GPUQueue", "writeBuffer", up],
      ["GPUBuffer", "mapAsync", down],
    ],
    run,
  );
  return bytes;
}
