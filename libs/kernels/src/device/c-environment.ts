import { builtinModule, platformName, RUNTIME } from "@lockstep/tensor";
import { processEnvironment, type Variables } from "./process-environment.ts";

/** What is used of `bun:ffi`. Declared here so that the source type-checks where Bun's modules are unknown. */
interface BunFfi {
  dlopen(
    library: string,
    symbols: {
      setenv: { args: readonly ["cstring", "cstring", "i32"]; returns: "i32" };
      getenv: { args: readonly ["cstring"]; returns: "cstring" };
      unsetenv: { args: readonly ["cstring"]; returns: "i32" };
    },
  ): {
    symbols: {
      setenv(name: Uint8Array, value: Uint8Array, overwrite: number): number;
      getenv(name: Uint8Array): { toString(): string } | null;
      unsetenv(name: Uint8Array): number;
    };
  };
}

interface CEnvironment {
  get(name: string): string | undefined;
  set(name: string, value: string): void;
  unset(name: string): void;
}

let environment: CEnvironment | undefined;

/**
 * Sets a variable of the process's C environment, which is what the Vulkan loader reads. In Bun `process.env` does not
 * reach it; in Deno and Node it does. A variable that already has the value is left alone: setenv is not safe beside
 * another thread's getenv, and several workers of one process may set the same variables. Returns the value before.
 */
export function setCEnvironment(name: string, value: string): string | undefined {
  const variables = cEnvironment();
  const before = variables.get(name);
  if (before !== value) variables.set(name, value);
  return before;
}

/** Removes a variable of the process's C environment. */
export function unsetCEnvironment(name: string): void {
  cEnvironment().unset(name);
}

function cEnvironment(): CEnvironment {
  environment ??= openEnvironment();
  return environment;
}

function openEnvironment(): CEnvironment {
  const ffi = RUNTIME === "bun" ? builtinModule<BunFfi>("bun:ffi") : undefined;
  return ffi === undefined ? environmentOf(processEnvironment()) : bunEnvironment(ffi);
}

function environmentOf(variables: Variables): CEnvironment {
  return {
    get: (name) => variables[name],
    set: (name, value) => {
      variables[name] = value;
    },
    unset: (name) => {
      delete variables[name];
    },
  };
}

function bunEnvironment(ffi: BunFfi): CEnvironment {
  const { setenv, getenv, unsetenv } = openLibc(ffi).symbols;
  const cString = (text: string): Uint8Array => new TextEncoder().encode(`${text}\0`);
  return {
    get: (name) => getenv(cString(name))?.toString(),
    set: (name, value) => {
      setenv(cString(name), cString(value), 1);
    },
    unset: (name) => {
      unsetenv(cString(name));
    },
  };
}

function openLibc(ffi: BunFfi): ReturnType<BunFfi["dlopen"]> {
  const isMac = platformName() === "darwin";
  let last: unknown;
  for (const library of isMac ? ["libSystem.B.dylib"] : ["libc.so.6", "libc.musl-x86_64.so.1", "libc.so"]) {
    try {
      return ffi.dlopen(library, {
        setenv: { args: ["cstring", "cstring", "i32"], returns: "i32" },
        getenv: { args: ["cstring"], returns: "cstring" },
        unsetenv: { args: ["cstring"], returns: "i32" },
      });
    } catch (error) {
      last = error;
    }
  }
  throw last;
}
