import { WebAssemblyForbidden } from "./errors.ts";
import type { WasmModule } from "./wasm-memory.ts";

/**
 * The bytes of a WebAssembly module that travels in a JavaScript module as base64. @throws for text that is not base64
 */
export function wasmCode(base64: string): Uint8Array<ArrayBuffer> {
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = binary.charCodeAt(at);
  return bytes;
}

/**
 * Compiles a WebAssembly module that travels as base64.
 * @param base64 the module
 * @throws WebAssemblyForbidden in a page whose Content-Security-Policy does not let it
 */
export async function compileWasm(base64: string): Promise<WasmModule> {
  try {
    return await WebAssembly.compile(wasmCode(base64));
  } catch (error) {
    throw compileFailure(error);
  }
}

/**
 * As {@link compileWasm}, at once, for small modules: Chromium refuses large ones to pages.
 * @param base64 the module
 */
export function compileWasmNow(base64: string): WasmModule {
  try {
    return new WebAssembly.Module(wasmCode(base64));
  } catch (error) {
    throw compileFailure(error);
  }
}

/** Browsers tell of a policy in words only: Chromium and Firefox by a CompileError, Safari by an EvalError. */
function compileFailure(error: unknown): unknown {
  const isPolicy =
    error instanceof Error && /content.security.policy|\bCSP\b|unsafe-eval|wasm-eval/i.test(error.message);
  return isPolicy ? new WebAssemblyForbidden(error.message) : error;
}
