// What the operating system's scheduler offers a thread and no JavaScript runtime passes on, called through FFI: giving
// the core away (half a microsecond, where a park with its wake-up costs some 25), and moving off a core that a peer
// sits on.

import { builtinModule, platformName, RUNTIME } from "@lockstep/tensor";

/** The scheduler, as the calling thread sees it. Every method is a system call or less; none blocks. */
export interface NativeScheduler {
  /** Lets another runnable thread have this thread's core. Returns at once when there is none. */
  yieldCore(): void;
  /** The core this thread runs on, or -1 where the system does not tell. */
  currentCore(): number;
  /** Moves this thread to another core than `core`, if it may run on any, and leaves it free to move again. */
  leaveCore(core: number): void;
}

/** Bytes of a set of cores, as in glibc: 1024 cores. */
const CORE_SET_BYTES = 128;

interface Signature {
  readonly args: readonly ("i32" | "usize" | "buffer")[];
  readonly returns: "i32";
}

type NativeFunction = (...args: readonly (number | bigint | Uint8Array)[]) => number;

const YIELD: Signature = { args: [], returns: "i32" };
const AFFINITY: Signature = { args: ["i32", "usize", "buffer"], returns: "i32" };

/** What is used of `bun:ffi`. Declared here so that the source type-checks where Bun's modules are unknown. */
interface BunFfi {
  dlopen(
    library: string,
    symbols: Readonly<Record<string, Signature>>,
  ): { readonly symbols: Readonly<Record<string, NativeFunction>> };
}

/** What is used of the global `Deno`. */
interface DenoFfi {
  readonly permissions: { querySync(descriptor: { readonly name: "ffi" }): { readonly state: string } };
  dlopen(
    library: string,
    symbols: Readonly<Record<string, { readonly parameters: Signature["args"]; readonly result: "i32" }>>,
  ): { readonly symbols: Readonly<Record<string, NativeFunction>> };
}

/**
 * The operating system's scheduler, or undefined where it cannot be called: in Node, in browsers, and in Deno
 * without the permission `--allow-ffi`, which is never asked for. Ranks wait without it too, but slower when they
 * outnumber the cores.
 */
export function openNativeScheduler(): NativeScheduler | undefined {
  const platform = platformName();
  if (platform === undefined) return undefined;
  if (platform === "linux") {
    const libraries = ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1", "libc.so"];
    return firstThatLoads(libraries, linuxScheduler);
  }
  if (platform === "win32") return firstThatLoads(["kernel32.dll"], yieldOnly("SwitchToThread"));
  return firstThatLoads(["libSystem.B.dylib", "libc.so"], yieldOnly("sched_yield"));
}

function firstThatLoads(
  libraries: readonly string[],
  open: (library: string) => NativeScheduler | undefined,
): NativeScheduler | undefined {
  for (const library of libraries) {
    try {
      return open(library);
    } catch {
      // Another name for the same library may do.
    }
  }
  return undefined;
}

function yieldOnly(symbol: string): (library: string) => NativeScheduler | undefined {
  return (library) => {
    const call = load(library, { [symbol]: YIELD })?.[symbol];
    if (call === undefined) return undefined;
    return {
      yieldCore() {
        call();
      },
      currentCore: () => -1,
      leaveCore() {},
    };
  };
}

function linuxScheduler(library: string): NativeScheduler | undefined {
  const functions = load(library, {
    sched_yield: YIELD,
    sched_getcpu: YIELD,
    sched_getaffinity: AFFINITY,
    sched_setaffinity: AFFINITY,
  });
  const { sched_yield, sched_getcpu, sched_getaffinity, sched_setaffinity } = functions ?? {};
  if (!sched_yield || !sched_getcpu || !sched_getaffinity || !sched_setaffinity) return undefined;
  const all = new Uint8Array(CORE_SET_BYTES);
  const others = new Uint8Array(CORE_SET_BYTES);
  return {
    yieldCore() {
      sched_yield();
    },
    currentCore: () => sched_getcpu(),
    leaveCore(core) {
      // 0 is the calling thread; the result is the size of the set, or negative.
      if (sched_getaffinity(0, CORE_SET_BYTES, all) < 0) return;
      others.set(all);
      others[core >> 3] = (others[core >> 3] ?? 0) & ~(1 << (core & 7));
      if (others.every((byte) => byte === 0)) return;
      sched_setaffinity(0, CORE_SET_BYTES, others);
      sched_setaffinity(0, CORE_SET_BYTES, all);
    },
  };
}

function load(
  library: string,
  symbols: Readonly<Record<string, Signature>>,
): Readonly<Record<string, NativeFunction | undefined>> | undefined {
  if (RUNTIME === "bun") return builtinModule<BunFfi>("bun:ffi")?.dlopen(library, symbols).symbols;
  const deno = (globalThis as { readonly Deno?: DenoFfi }).Deno;
  if (deno === undefined || deno.permissions.querySync({ name: "ffi" }).state !== "granted") return undefined;
  const converted = Object.entries(symbols).map(([name, { args, returns }]) => [
    name,
    { parameters: args, result: returns },
  ]);
  return deno.dlopen(library, Object.fromEntries(converted)).symbols;
}
