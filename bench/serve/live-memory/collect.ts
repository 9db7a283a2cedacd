// What a thread's heap holds once everything that can be collected has been.

/** What is used of what only one of the runtimes has. */
interface Runtimes {
  /** Deno's, by its option --v8-flags=--expose-gc. */
  readonly gc?: (() => unknown) | undefined;
  readonly Bun?: { gc(force: boolean): unknown } | undefined;
  readonly Deno?: { memoryUsage(): { readonly heapUsed: number; readonly external: number } };
}

const { Bun, Deno, gc }: Runtimes = globalThis;

/** The channel on which ranks are asked, with a number. */
export const CHANNEL = "bench:serve live memory";

/** What a rank answers. */
export interface ThreadAnswer {
  /** The number that it was asked with. */
  readonly asked: number;
  /** See {@link liveHeap}. */
  readonly bytes: number;
}

/** What objects held outside of the heap when this was first asked: above all the memory that ranks share. */
let outsideAtFirst: number | undefined;

/**
 * Collects this thread's garbage; bytes of the objects that live, and what more they hold outside of the heap than
 * when it was first asked.
 */
export async function liveHeap(): Promise<number> {
  const collect = Bun === undefined ? gc : (): unknown => Bun.gc(true);
  if (collect === undefined) throw new Error("live memory: the runtime has no way to collect garbage");
  // What finalizers of the first collection let go is found by the next.
  for (let turn = 0; turn < 3; turn++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const { inside, outside } = await measured();
  outsideAtFirst ??= outside;
  return inside + outside - outsideAtFirst;
}

async function measured(): Promise<{ readonly inside: number; readonly outside: number }> {
  if (Deno !== undefined) {
    const { heapUsed, external } = Deno.memoryUsage();
    return { inside: heapUsed, outside: external };
  }
  const { heapSize, extraMemorySize } = (await import("bun:jsc")).heapStats();
  return { inside: heapSize - extraMemorySize, outside: extraMemorySize };
}
