/**
 * A `WebAssembly.Memory`. Where TypeScript is not told of that (it is part of its `dom` types, and of Bun's, Deno's and
 * Node's), what is used of one.
 */
export type WasmMemory = typeof globalThis extends { WebAssembly: { Memory: { prototype: infer Memory } } }
  ? Memory
  : { readonly buffer: ArrayBufferLike; grow(pages: number): number };

/** A `WebAssembly.Module`, told of as {@link WasmMemory} is. */
export type WasmModule = typeof globalThis extends { WebAssembly: { Module: { prototype: infer Module } } }
  ? Module
  : object;
