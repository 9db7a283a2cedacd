// Native memory that a thread's calls of MPI write their results into, allocated once.

import type { MpiAbi } from "./abi.ts";
import type { NativeCalls } from "./native-calls.ts";

const FLAG = 0;
const COUNT = 4;
const HANDLE = 8;
const STATUS = 16;
/** Longer than any layout's status. */
const STATUS_BYTES = 64;
const TEXT = STATUS + STATUS_BYTES;
/** As long as the longest text of any layout (MPI_MAX_LIBRARY_VERSION_STRING). */
const TEXT_BYTES = 8192;

/** A flag, a count, a handle, a status and a text, each with its address. */
export class CallArea {
  readonly flagAddress: number;
  readonly countAddress: number;
  readonly handleAddress: number;
  readonly statusAddress: number;
  readonly textAddress: number;
  readonly #ints: Int32Array;
  readonly #buffer: ArrayBuffer;
  readonly #source: number;
  readonly #tag: number;

  constructor(native: NativeCalls, abi: MpiAbi) {
    this.#buffer = new ArrayBuffer(TEXT + TEXT_BYTES);
    this.#ints = new Int32Array(this.#buffer);
    const address = native.addressOf(this.#buffer);
    this.flagAddress = address + FLAG;
    this.countAddress = address + COUNT;
    this.handleAddress = address + HANDLE;
    this.statusAddress = address + STATUS;
    this.textAddress = address + TEXT;
    this.#source = (STATUS + abi.sourceOffset) / 4;
    this.#tag = (STATUS + abi.tagOffset) / 4;
  }

  /** The C `int` at `flagAddress`, as a truth value. */
  get flag(): boolean {
    return this.#ints[FLAG / 4] !== 0;
  }

  /** The C `int` at `countAddress`. */
  get count(): number {
    return this.#ints[COUNT / 4] ?? 0;
  }

  /** MPI_SOURCE of the status. */
  get source(): number {
    return this.#ints[this.#source] ?? 0;
  }

  /** MPI_TAG of the status. */
  get tag(): number {
    return this.#ints[this.#tag] ?? 0;
  }

  /** The handle, or whatever has the width of an address. */
  get handle(): bigint {
    return new BigUint64Array(this.#buffer, HANDLE, 1)[0] ?? 0n;
  }

  set handle(value: bigint) {
    new BigUint64Array(this.#buffer, HANDLE, 1)[0] = value;
  }

  /** The text, as long as `count` says. */
  get text(): string {
    return new TextDecoder().decode(new Uint8Array(this.#buffer, TEXT, Math.min(this.count, TEXT_BYTES)));
  }

  /** Fills flag, count, handle and status with what no call of MPI leaves there, to show what the next one writes. */
  spoil(): void {
    this.#ints.fill(-0x5a5a_5a5b, 0, TEXT / 4);
  }
}
