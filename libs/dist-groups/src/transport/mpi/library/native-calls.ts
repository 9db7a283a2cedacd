// Calls of native code from Bun and Deno alike: functions of a library, addresses of buffers, and bytes at addresses.

import { builtinModule, platformName, RUNTIME } from "@lockstep/tensor";
import { MpiUnsuitable } from "../../../errors/mpi-errors.ts";

/** C's `int`, or what has the width of an address (pointers, `size_t`). */
export type NativeType = "i32" | "usize";

/** Types of a function's arguments and of what it returns. */
export interface Signature {
  readonly args: readonly NativeType[];
  readonly returns: NativeType;
}

/** A native function. Integers and addresses go in as numbers; `usize` may come out as a bigint. */
export type NativeFunction<Result = number> = (...args: readonly number[]) => Result;

/** What is used of `bun:ffi`. Declared here so that the source type-checks where Bun's modules are unknown. */
interface BunFfi {
  dlopen(library: string, symbols: Readonly<Record<string, Signature>>): { readonly symbols: Symbols };
  ptr(buffer: Uint8Array): number;
}

type Symbols = Readonly<Record<string, NativeFunction<number | bigint> | undefined>>;

/** What is used of the global `Deno`. */
interface DenoFfi {
  readonly permissions: { querySync(descriptor: { readonly name: "ffi" }): { readonly state: string } };
  dlopen(
    library: string,
    symbols: Readonly<Record<string, { readonly parameters: readonly NativeType[]; readonly result: NativeType }>>,
  ): { readonly symbols: Symbols };
  readonly UnsafePointer: { of(buffer: Uint8Array): object | null; value(pointer: object | null): number | bigint };
}

/** Foreign functions of the runtime that runs this thread. */
export interface NativeCalls {
  /**
   * Loads a library, or finds it loaded, and looks functions up by name. It stays loaded until the process ends.
   * @throws Error when the library cannot be loaded or lacks a function
   */
  load(library: string, signatures: Readonly<Record<string, Signature>>): Symbols;
  /** Address of the first byte of a buffer, shared or not; 0 for one without bytes. */
  addressOf(buffer: ArrayBufferLike): number;
}

/**
 * Foreign functions of this runtime.
 * @throws MpiUnsuitable in Node, in browsers, and in Deno without the permission `--allow-ffi`, which is not asked for
 */
export function nativeCalls(): NativeCalls {
  if (platformName() === "win32") {
    throw new MpiUnsuitable("it is supported on Linux and macOS, and this is Windows: run there, or in WSL");
  }
  if (RUNTIME === "bun") {
    const ffi = builtinModule<BunFfi>("bun:ffi");
    if (ffi !== undefined) return ofBun(ffi);
  }
  const deno = (globalThis as { readonly Deno?: DenoFfi }).Deno;
  if (deno === undefined) {
    throw new MpiUnsuitable(
      `native libraries can be called in Bun and Deno, and this is ${RUNTIME}: run in one of them`,
    );
  }
  if (deno.permissions.querySync({ name: "ffi" }).state !== "granted") {
    throw new MpiUnsuitable("Deno lacks the permission to call native libraries: run it with --allow-ffi");
  }
  return ofDeno(deno);
}

function ofBun(ffi: BunFfi): NativeCalls {
  return {
    load: (library, signatures) => ffi.dlopen(library, signatures).symbols,
    addressOf: (buffer) => (buffer.byteLength === 0 ? 0 : ffi.ptr(new Uint8Array(buffer))),
  };
}

function ofDeno(deno: DenoFfi): NativeCalls {
  return {
    load(library, signatures) {
      const converted = Object.entries(signatures).map(([name, { args, returns }]) => [
        name,
        { parameters: args, result: returns },
      ]);
      return deno.dlopen(library, Object.fromEntries(converted)).symbols;
    },
    addressOf: (buffer) =>
      buffer.byteLength === 0 ? 0 : Number(deno.UnsafePointer.value(deno.UnsafePointer.of(new Uint8Array(buffer)))),
  };
}
