import { describe } from "./describe.ts";
import { ArgumentError, MemoryNotShared } from "./errors.ts";

/** Throws MemoryNotShared, which names `operation`, in a page that has no shared memory. */
export function checkSharedMemory(operation: string): void {
  const isIsolated = Reflect.get(globalThis, "crossOriginIsolated") !== false;
  if (!isIsolated || typeof SharedArrayBuffer === "undefined") throw new MemoryNotShared(operation);
}

/**
 * New bytes, all 0, that threads share.
 * @param operation public function that errors name
 * @param length how many bytes
 * @throws ArgumentError; MemoryNotShared in a page without cross-origin isolation
 */
export function sharedBytes(operation: string, length: number): Uint8Array {
  if (!Number.isSafeInteger(length) || length < 0) {
    throw new ArgumentError(operation, "length", "a number of bytes", describe(length));
  }
  checkSharedMemory(operation);
  return new Uint8Array(new SharedArrayBuffer(length));
}

/** Whether threads share the memory of these bytes. */
export function areShared(bytes: Uint8Array): boolean {
  return typeof SharedArrayBuffer !== "undefined" && (bytes.buffer as unknown) instanceof SharedArrayBuffer;
}
