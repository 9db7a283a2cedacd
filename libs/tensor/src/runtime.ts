// The one place that asks what runs this code. Everything else asks here, or for what it needs (a global, a module).

/** What runs this code. A worker of a browser is "browser". */
export type Runtime = "bun" | "deno" | "node" | "browser";

/** What runs this code. */
export const RUNTIME: Runtime =
  "Bun" in globalThis ? "bun" : "Deno" in globalThis ? "deno" : processOf()?.versions?.node ? "node" : "browser";

/** What is used of the global `process`, which browsers lack. */
interface ProcessLike {
  readonly platform?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly versions?: { readonly node?: string };
  getBuiltinModule?(name: string): unknown;
}

function processOf(): ProcessLike | undefined {
  const found: unknown = Reflect.get(globalThis, "process");
  return typeof found === "object" && found !== null ? found : undefined;
}

/** The operating system as `process.platform` names it, or undefined in a browser. */
export function platformName(): string | undefined {
  return processOf()?.platform;
}

/**
 * A module that comes with Bun, Deno and Node 22 (`node:fs`), or with Bun alone (`bun:ffi`); undefined where there is
 * none of that name. Asked for at run time, so that bundlers for browsers meet no import that they cannot resolve.
 * @param M the module's type: `builtinModule<typeof import("node:fs")>("node:fs")`
 */
export function builtinModule<M extends object>(name: string): M | undefined {
  const load = processOf()?.getBuiltinModule;
  return load === undefined ? undefined : (load(name) as M | undefined);
}
