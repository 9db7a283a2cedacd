import { describe } from "./describe.ts";
import { ArgumentError, HeapExhausted, InvalidFree } from "./errors.ts";
import { checkSharedMemory } from "./shared-bytes.ts";
import type { WasmMemory } from "./wasm-memory.ts";

const PAGE_BYTES = 65536;
/** Every allocation starts on a cache line of its own, so that two owners never share one. */
const CACHE_LINE_BYTES = 128;

/** Where tensors get their bytes: a {@link SharedHeap}, or an {@link Arena} inside one. */
export interface Allocator {
  /** The heap that the bytes are of. */
  readonly heap: SharedHeap;
  /** Byte offset, within the heap's memory, of a fresh range aligned to 128 bytes. Its contents are undefined. */
  allocate(bytes: number): number;
  /** Returns the range at byte `offset` to the allocator. */
  release(offset: number): void;
  /** {@link allocate} of `bytes` of zeros. Left out by allocators that write zeros as everybody else does. */
  allocateZeros?(bytes: number): number;
  /**
   * For allocators that take ranges back without a `release` of each: how many ranges were handed out so far. Right
   * after an allocation it identifies the range that was allocated.
   */
  readonly allocations?: number;
  /** For the same allocators: false once the range at `offset`, identified by `allocations`, was taken back. */
  isLive?(offset: number, allocations: number): boolean;
}

/** Throws ArgumentError unless `allocator` is something that tensors can get their bytes from. */
export function checkAllocator(operation: string, allocator: Allocator): void {
  if (typeof allocator?.allocate !== "function" || !(allocator.heap instanceof SharedHeap)) {
    const name: unknown = allocator?.constructor?.name;
    const isOfAnother = name === "SharedHeap" || name === "Arena";
    const advice = isOfAnother
      ? "It is of another copy of @lockstep/tensor: a program needs one copy, so install one version."
      : "";
    throw new ArgumentError(operation, "allocator", "a SharedHeap or an Arena", describe(allocator), advice);
  }
}

let nextMemoryId = 1;

/**
 * A range of one `WebAssembly.Memory({ shared: true })` with an allocator over it. Kernels and peers read the same
 * bytes, so nothing is copied between ranks. The allocator's bookkeeping lives in the JavaScript of the one thread
 * that owns the range: split a memory into one range per rank ({@link SharedHeap.range}) rather than sharing a range.
 *
 * Memory is reserved at once (address space only) and becomes resident when first touched: zeros that nobody wrote
 * before are not written now ({@link SharedHeap.allocateZeros}).
 */
export class SharedHeap implements Allocator {
  /** Identifies the memory, not the range: equal on every thread that holds the same memory. */
  readonly id: string;
  /** The memory, which can be posted to workers. */
  readonly memory: WasmMemory;
  /** The memory's bytes. */
  readonly buffer: SharedArrayBuffer;
  /** First byte of this range within the memory. */
  readonly start: number;
  /** Bytes of this range. */
  readonly totalBytes: number;
  /** Free ranges ordered by offset, none adjacent to another. */
  readonly #free: { offset: number; bytes: number }[];
  readonly #allocated = new Map<number, number>();
  #freeBytes: number;
  /** From here on nothing was ever handed out: still the zeros of a new memory. */
  #untouchedFrom: number;

  private constructor(id: string, memory: WasmMemory, start: number, totalBytes: number, isNew: boolean) {
    this.id = id;
    this.memory = memory;
    this.buffer = memory.buffer as unknown as SharedArrayBuffer;
    this.start = start;
    this.totalBytes = totalBytes;
    this.#freeBytes = totalBytes;
    this.#untouchedFrom = isNew ? start : start + totalBytes;
    this.#free = totalBytes === 0 ? [] : [{ offset: start, bytes: totalBytes }];
  }

  /**
   * A heap over a new shared memory of `bytes` (rounded up to 64 KiB pages; at most 4 GiB - 64 KiB).
   * @throws ArgumentError; MemoryNotShared in a page without cross-origin isolation
   */
  static create(bytes: number): SharedHeap {
    const pages = Number.isInteger(bytes) ? Math.ceil(bytes / PAGE_BYTES) : 0;
    if (pages < 1 || pages > 65535) {
      throw new ArgumentError("SharedHeap.create", "bytes", "an integer from 1 to 4294901760", describe(bytes));
    }
    const memory = reserveMemory(bytes, pages);
    const id = `${Date.now().toString(36)}-${Math.floor(Math.random() * 2 ** 32).toString(36)}-${nextMemoryId++}`;
    // Offset 0 is never handed out: kernels may use 0 as "no tensor".
    return new SharedHeap(id, memory, CACHE_LINE_BYTES, pages * PAGE_BYTES - CACHE_LINE_BYTES, true);
  }

  /**
   * A heap over `totalBytes` of an existing memory from byte `start` on, for the thread that owns that part.
   * @param id the one of the memory's creator
   * @param isNew nobody has written to that part: its zeros need not be written
   */
  static range(id: string, memory: WasmMemory, start: number, totalBytes: number, isNew = false): SharedHeap {
    const operation = "SharedHeap.range";
    if (typeof id !== "string") throw new ArgumentError(operation, "id", "the id of a SharedHeap", describe(id));
    const isShared = memory instanceof WebAssembly.Memory && (memory.buffer as unknown) instanceof SharedArrayBuffer;
    if (!isShared) throw new ArgumentError(operation, "memory", "a shared WebAssembly.Memory", describe(memory));
    const isRange = Number.isInteger(start) && Number.isInteger(totalBytes) && totalBytes >= 0;
    const isWithin = isRange && start >= CACHE_LINE_BYTES && start + totalBytes <= memory.buffer.byteLength;
    if (!isWithin || start % CACHE_LINE_BYTES !== 0) {
      throw new ArgumentError(
        operation,
        "start, totalBytes",
        `a 128-byte aligned range within (0, ${memory.buffer.byteLength}]`,
        `${describe(totalBytes)} bytes from ${describe(start)} on`,
      );
    }
    return new SharedHeap(id, memory, start, totalBytes, isNew);
  }

  /** Itself: it is an {@link Allocator}. */
  get heap(): SharedHeap {
    return this;
  }

  /** Bytes that are free, in all ranges together. */
  get freeBytes(): number {
    return this.#freeBytes;
  }

  /** Bytes that are handed out. */
  get usedBytes(): number {
    return this.totalBytes - this.#freeBytes;
  }

  /** Bytes of the largest free range: the largest tensor that still fits. */
  get largestFreeBytes(): number {
    let largest = 0;
    for (const range of this.#free) largest = Math.max(largest, range.bytes);
    return largest;
  }

  allocate(bytes: number): number {
    checkBytes("SharedHeap.allocate", bytes);
    const wanted = roundUpToLine(Math.max(bytes, 1));
    const index = this.#free.findIndex((range) => range.bytes >= wanted);
    const range = this.#free[index];
    if (range === undefined) {
      throw new HeapExhausted("SharedHeap", bytes, this.#freeBytes, this.largestFreeBytes, this.totalBytes);
    }
    const offset = range.offset;
    if (range.bytes === wanted) this.#free.splice(index, 1);
    else {
      range.offset += wanted;
      range.bytes -= wanted;
    }
    this.#allocated.set(offset, wanted);
    this.#freeBytes -= wanted;
    this.#untouchedFrom = Math.max(this.#untouchedFrom, offset + wanted);
    return offset;
  }

  /** As {@link allocate}, of `bytes` that are zeros: those that nobody wrote before are not written now. */
  allocateZeros(bytes: number): number {
    const untouched = this.#untouchedFrom;
    const offset = this.allocate(bytes);
    const written = Math.min(bytes, untouched - offset);
    if (written > 0) new Uint8Array(this.buffer, offset, written).fill(0);
    return offset;
  }

  /** Gives the range at byte `offset` back. @throws InvalidFree for one that is not handed out */
  release(offset: number): void {
    const bytes = this.#allocated.get(offset);
    if (bytes === undefined) {
      throw new InvalidFree("SharedHeap", offset, "it is not allocated here (freed twice, or owned by another rank)");
    }
    this.#allocated.delete(offset);
    this.#freeBytes += bytes;
    let index = this.#free.findIndex((range) => range.offset > offset);
    if (index === -1) index = this.#free.length;
    const before = this.#free[index - 1];
    const after = this.#free[index];
    const joinsBefore = before !== undefined && before.offset + before.bytes === offset;
    const joinsAfter = after !== undefined && offset + bytes === after.offset;
    if (joinsBefore && joinsAfter) {
      before.bytes += bytes + after.bytes;
      this.#free.splice(index, 1);
    } else if (joinsBefore) before.bytes += bytes;
    else if (joinsAfter) {
      after.offset = offset;
      after.bytes += bytes;
    } else this.#free.splice(index, 0, { offset, bytes });
  }
}

/** Bytes rounded up to whole cache lines: what an allocation takes. */
export function roundUpToLine(bytes: number): number {
  return Math.ceil(bytes / CACHE_LINE_BYTES) * CACHE_LINE_BYTES;
}

/** Throws ArgumentError unless `bytes` is a non-negative integer. */
export function checkBytes(operation: string, bytes: number): void {
  if (!Number.isInteger(bytes) || bytes < 0) {
    throw new ArgumentError(operation, "bytes", "a non-negative integer", describe(bytes));
  }
}

function reserveMemory(bytes: number, pages: number): WebAssembly.Memory {
  checkSharedMemory("SharedHeap.create");
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (cause) {
    const error = new ArgumentError("SharedHeap.create", "bytes", "as many as this process can reserve", `${bytes}`);
    error.cause = cause;
    throw error;
  }
}
