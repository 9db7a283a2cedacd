import { watchDawn } from "./watch-dawn.ts";

/** Counts the dispatches that are encoded on this thread while `run` runs. */
export async function countDispatches(run: () => Promise<void>): Promise<number> {
  let count = 0;
  await watchDawn([["GPUComputePassEncoder", "dispatchWorkgroups", () => count++]], run);
  return count;
}
