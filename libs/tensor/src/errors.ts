import { describe } from "./describe.ts";
import { registerErrorClass } from "./error-classes.ts";

/**
 * Base of every error this project throws on purpose. `_tag` names the kind and survives structured cloning as a
 * plain field, so hosts can tell errors apart after they crossed a worker boundary (and Effect's `catchTag` works).
 */
export abstract class LockstepError extends Error {
  /** The kind of error; the name of its class. */
  abstract readonly _tag: string;

  /** The same as `_tag`. */
  override get name(): string {
    return this._tag;
  }
}

/** A public function was called with an argument it cannot accept. Nothing was written. */
export class ArgumentError extends LockstepError {
  static {
    registerErrorClass("ArgumentError", ArgumentError);
  }

  readonly _tag = "ArgumentError";
  /** Public function that was called. */
  readonly operation: string;
  /** Name of the offending argument. */
  readonly argument: string;
  /** What would have been accepted. */
  readonly expected: string;
  /** What came. */
  readonly received: string;

  constructor(operation: string, argument: string, expected: string, received: string, advice = "") {
    // Callers that pass a wrong value on as it came must not fail at printing it.
    const came = typeof received === "string" ? received : describe(received);
    super(`${operation}: \`${argument}\` must be ${expected}, but is ${came}.${advice === "" ? "" : ` ${advice}`}`);
    this.operation = operation;
    this.argument = argument;
    this.expected = expected;
    this.received = came;
  }
}

/** A heap or arena has no free range of the asked size. Nothing was allocated. */
export class HeapExhausted extends LockstepError {
  static {
    registerErrorClass("HeapExhausted", HeapExhausted);
  }

  readonly _tag = "HeapExhausted";
  /** The heap or arena, in words. */
  readonly heap: string;
  /** Bytes that were asked for. */
  readonly requestedBytes: number;
  /** Bytes that are free, in all ranges together. */
  readonly freeBytes: number;
  /** Bytes of the largest free range. */
  readonly largestFreeBytes: number;
  /** Bytes of the heap or arena. */
  readonly totalBytes: number;

  constructor(heap: string, requestedBytes: number, freeBytes: number, largestFreeBytes: number, totalBytes: number) {
    super(
      `${heap} is exhausted: ${requestedBytes} bytes were asked, ${freeBytes} of ${totalBytes} bytes are left ` +
        `(largest free range ${largestFreeBytes}). Free tensors, reset an arena, or open it with more bytes.`,
    );
    this.heap = heap;
    this.requestedBytes = requestedBytes;
    this.freeBytes = freeBytes;
    this.largestFreeBytes = largestFreeBytes;
    this.totalBytes = totalBytes;
  }
}

/** A page wants memory that its workers share, and its server did not let it. Nothing was allocated. */
export class MemoryNotShared extends LockstepError {
  static {
    registerErrorClass("MemoryNotShared", MemoryNotShared);
  }

  readonly _tag = "MemoryNotShared";

  constructor(operation = "SharedHeap.create") {
    super(
      `${operation}: a page has shared memory only with cross-origin isolation, and this one has none ` +
        "(crossOriginIsolated is false). Serve the page with the headers Cross-Origin-Opener-Policy: same-origin and " +
        "Cross-Origin-Embedder-Policy: require-corp, over HTTPS or from localhost.",
    );
  }
}

/** A page's Content-Security-Policy does not let it compile WebAssembly. Nothing was opened. */
export class WebAssemblyForbidden extends LockstepError {
  static {
    registerErrorClass("WebAssemblyForbidden", WebAssemblyForbidden);
  }

  readonly _tag = "WebAssemblyForbidden";

  constructor(reason: string) {
    super(
      "WebAssembly may not be compiled here: the page's Content-Security-Policy must allow 'wasm-unsafe-eval' in " +
        `script-src. Send that with the page, and with the scripts of its workers. The browser says: ${reason}`,
    );
  }
}

/** A tensor was freed twice, or memory that the heap never handed out was freed. */
export class InvalidFree extends LockstepError {
  static {
    registerErrorClass("InvalidFree", InvalidFree);
  }

  readonly _tag = "InvalidFree";

  constructor(heap: string, offset: number, reason: string) {
    super(`${heap}: cannot free byte offset ${offset}: ${reason}.`);
  }
}

/** A tensor, or a view of one, was used after its bytes had been given back. Nothing was read or written. */
export class UseAfterFree extends LockstepError {
  static {
    registerErrorClass("UseAfterFree", UseAfterFree);
  }

  readonly _tag = "UseAfterFree";
  /** Public function that was called. */
  readonly operation: string;
  /** Name of the offending argument. */
  readonly argument: string;

  constructor(operation: string, argument: string, tensor: string) {
    super(
      `${operation}: \`${argument}\` (${tensor}) was freed: its bytes may belong to another tensor. ` +
        "Use tensors before they, or the tensors they are views of, are freed, and before their arena is reset or " +
        "closed.",
    );
    this.operation = operation;
    this.argument = argument;
  }
}

/** Something was used after it had been closed. */
export class ResourceClosed extends LockstepError {
  static {
    registerErrorClass("ResourceClosed", ResourceClosed);
  }

  readonly _tag = "ResourceClosed";
  /** Public function that was called. */
  readonly operation: string;

  constructor(operation: string, what: string, advice: string) {
    super(`${operation}: ${what} was closed. ${advice}`);
    this.operation = operation;
  }
}

/** A safetensors file cannot be read: truncated, malformed, or holding a dtype this library does not know. */
export class SafetensorsError extends LockstepError {
  static {
    registerErrorClass("SafetensorsError", SafetensorsError);
  }

  readonly _tag = "SafetensorsError";

  constructor(
    file: string,
    expected: string,
    received: string,
    advice = " Is the file complete and a safetensors file?",
  ) {
    super(`${file}: expected ${expected}, but found ${received}.${advice}`);
  }
}
