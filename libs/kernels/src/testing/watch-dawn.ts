import { globals } from "webgpu";

type Method = (...args: unknown[]) => unknown;

/** Methods of Dawn's classes, each with what is told the arguments of every call of it. */
export type Watched = readonly (readonly [type: string, name: string, seen: (args: readonly unknown[]) => void])[];

/** Tells of the calls of Dawn's methods while `run` runs, on every device of this thread. */
export async function watchDawn(watched: Watched, run: () => Promise<void>): Promise<void> {
  const classes = globals as Record<string, { prototype: Record<string, Method> }>;
  const restore: (() => void)[] = [];
  try {
    for (const [type, name, seen] of watched) {
      const prototype = classes[type]?.prototype;
      const original = prototype?.[name];
      if (prototype === undefined || original === undefined) throw new Error(`Dawn has no ${type}.${name}`);
      prototype[name] = function (this: unknown, ...args: unknown[]) {
        seen(args);
        return original.apply(this, args);
      };
      restore.push(() => {
        prototype[name] = original;
      });
    }
    await run();
  } finally {
    for (const undo of restore) undo();
  }
}
