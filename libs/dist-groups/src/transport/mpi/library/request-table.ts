// The requests that a thread has under way. MPI writes a request's handle into a slot of native memory and changes it
// there; callers know it by the slot's number.

import type { NativeCalls } from "./native-calls.ts";

/** What a slot holds. */
export const RequestKind = { none: 0, send: 1, receive: 2, cancelling: 3, over: 4 } as const;

/** Bytes of a slot: the widest handle. */
const SLOT_BYTES = 8;
const FIRST_SLOTS = 64;

/** Slots for requests, as many as are needed at once. Allocates only when there are more than ever before. */
export class RequestTable {
  readonly #native: NativeCalls;
  #handles = new ArrayBuffer(0);
  #address = 0;
  /** Of each slot, a {@link RequestKind}. */
  #kinds = new Uint8Array(0);
  /** Of each slot that is over, the bytes it brought. */
  #bytes = new Int32Array(0);
  /** A stack of the slots that are free, and its height. */
  #free = new Int32Array(0);
  #freeCount = 0;

  constructor(native: NativeCalls) {
    this.#native = native;
    this.#grow(FIRST_SLOTS);
  }

  /** Slots that are taken. */
  get taken(): number {
    return this.#kinds.length - this.#freeCount;
  }

  /** Takes a free slot. */
  take(kind: number): number {
    if (this.#freeCount === 0) this.#grow(this.#kinds.length * 2);
    const slot = this.#free[--this.#freeCount] ?? 0;
    this.#kinds[slot] = kind;
    return slot;
  }

  /** Frees a slot that is taken. */
  release(slot: number): void {
    this.#kinds[slot] = RequestKind.none;
    this.#free[this.#freeCount++] = slot;
  }

  /** What the slot holds; none also for what is no slot. */
  kind(slot: number): number {
    return this.#kinds[slot] ?? RequestKind.none;
  }

  /** Address of the slot's handle. Valid until the next `take`. */
  addressOf(slot: number): number {
    return this.#address + slot * SLOT_BYTES;
  }

  /** Marks a receive whose cancelling MPI has not decided yet. */
  markCancelling(slot: number): void {
    this.#kinds[slot] = RequestKind.cancelling;
  }

  /** Marks a receive that MPI has ended and its owner has not tested yet. */
  markOver(slot: number, bytes: number): void {
    this.#kinds[slot] = RequestKind.over;
    this.#bytes[slot] = bytes;
  }

  /** Bytes that a receive marked as over brought. */
  bytesOf(slot: number): number {
    return this.#bytes[slot] ?? 0;
  }

  #grow(slots: number): void {
    const before = this.#kinds.length;
    const handles = new ArrayBuffer(slots * SLOT_BYTES);
    new Uint8Array(handles).set(new Uint8Array(this.#handles));
    this.#handles = handles;
    this.#address = this.#native.addressOf(handles);
    const kinds = new Uint8Array(slots);
    kinds.set(this.#kinds);
    this.#kinds = kinds;
    const bytes = new Int32Array(slots);
    bytes.set(this.#bytes);
    this.#bytes = bytes;
    const free = new Int32Array(slots);
    free.set(this.#free);
    this.#free = free;
    // The lowest slot is taken first.
    for (let slot = slots - 1; slot >= before; slot--) this.#free[this.#freeCount++] = slot;
  }
}
