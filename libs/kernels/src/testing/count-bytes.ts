import { globals } from "webgpu";

/** Bytes that crossed between the host and GPUs. */
export interface CrossedBytes {
  /** By `writeBuffer`. */
  up: number;
  /** In mapped ranges. */
  down: number;
}

type Method = (...args: unknown[]) => unknown;

/**
 * Counts bytes of Dawn's uploads and maps while `run` runs, on every device of this thread. Uploads of 256 KiB or more,
 * which go by mapped memory, count as `down`: for small steps only.
 */
export async function countBytes(run: () => Promise<void>): Promise<CrossedBytes> {
  const bytes: CrossedBytes = { up: 0, down: 0 };
  const classes = globals as Record<string, { prototype: Record<string, Method> }>;
  const restore: (() => void)[] = [];
  const watch = (type: string, name: string, count: (args: readonly unknown[]) => void): void => {
    const prototype = classes[type]?.prototype;
    const original = prototype?.[name];
    if (prototype === undefined || original === undefined) throw new Error(`Dawn has no ${type}.${name}`);
    prototype[name] = function (this: unknown, ...args: unknown[]) {
      count(args);
      return original.apply(this, args);
    };
    restore.push(() => {
      prototype[name] = original;
    });
  };
  watch("GPUQueue", "writeBuffer", ([, , data, , size]) => {
    bytes.up += typeof size === "number" ? size : (data as ArrayBuffer).byteLength;
  });
  watch("GPUBuffer", "mapAsync", ([, , size]) => {
    if (typeof size === "number") bytes.down += size;
  });
  try {
    await run();
  } finally {
    for (const undo of restore) undo();
  }
  return bytes;
}
