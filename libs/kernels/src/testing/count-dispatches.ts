import { globals } from "webgpu";

type Method = (this: unknown, ...args: unknown[]) => unknown;

/** Counts the dispatches that are encoded on this thread while `run` runs. */
export async function countDispatches(run: () => Promise<unknown> | undefined): Promise<number> {
  const classes = globals as Record<string, { prototype: Record<string, Method> }>;
  const prototype = classes.GPUComputePassEncoder?.prototype;
  const original = prototype?.dispatchWorkgroups;
  if (prototype === undefined || original === undefined) throw new Error("Dawn has no compute passes");
  let count = 0;
  prototype.dispatchWorkgroups = function (...args) {
    count++;
    return original.apply(this, args);
  };
  try {
    await run();
  } finally {
    prototype.dispatchWorkgroups = original;
  }
  return count;
}
