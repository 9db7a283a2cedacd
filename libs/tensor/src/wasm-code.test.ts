import { afterEach, expect, test } from "bun:test";
import { WebAssemblyForbidden } from "./errors.ts";
import { compileWasm, compileWasmNow } from "./wasm-code.ts";

/** The shortest module: its magic and version. */
const EMPTY = btoa("\0asm\x01\0\0\0");
const { compile, Module } = WebAssembly;

afterEach(() => {
  Reflect.set(WebAssembly, "compile", compile);
  Reflect.set(WebAssembly, "Module", Module);
});

test("compiles at once and in time", async () => {
  expect(await compileWasm(EMPTY)).toBeInstanceOf(Module);
  expect(compileWasmNow(EMPTY)).toBeInstanceOf(Module);
});

const WORDS = [
  "Compiling or instantiating WebAssembly module violates the following Content Security policy directive because " +
    "'unsafe-eval' is not an allowed source of script",
  "call to WebAssembly.compile() blocked by CSP",
];

test.each(WORDS)("says what a page's policy must allow: %s", async (words) => {
  const refuse = (): never => {
    throw new WebAssembly.CompileError(words);
  };
  Reflect.set(WebAssembly, "compile", async () => refuse());
  Reflect.set(WebAssembly, "Module", function refused() {
    refuse();
  });
  const error = await compileWasm(EMPTY).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(WebAssemblyForbidden);
  expect(String(error)).toContain("must allow 'wasm-unsafe-eval' in script-src");
  expect(() => compileWasmNow(EMPTY)).toThrow(WebAssemblyForbidden);
});

test("leaves other failures as they are", async () => {
  const error = await compileWasm(btoa("no module")).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(WebAssembly.CompileError);
});
