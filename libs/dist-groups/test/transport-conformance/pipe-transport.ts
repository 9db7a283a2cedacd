// A transport of ranks that share nothing, over a byte pipe (a MessagePort) between every two of them. It exists to
// show that nothing above the transport needs a shared memory, and as the smallest example of a transport:
// announcements are copied into rooms that look the same on every rank, slices land in a heap of the receiver's, and
// the record that announced a tensor is made to lead there. No byte is read through an address of a peer: what is sent
// is copied first.

import { receiveMessageOnPort } from "node:worker_threads";
import { DTYPE_BYTES, DTYPES, elementCount, forEachOffset, type SharedHeap } from "@lockstep/tensor";
import { fromPlainError, type PlainError, toPlainError } from "../../src/errors/plain-error.ts";
import { FLIGHT_RING_WORDS } from "../../src/flight-record/flight-ring.ts";
import { operandTableWords } from "../../src/reduction/operand-table.ts";
import { FLAT, type SliceExchange, type Transport, WHOLE } from "../../src/transport/transport.ts";
import { HEADER_WORDS } from "../../src/wire/collective-header.ts";
import { recordAddress, recordShape, recordStrides, setRecordAddress } from "../../src/wire/tensor-record.ts";

/** What goes through a pipe. Order is kept. */
export type Frame =
  | { readonly kind: "slice"; readonly bytes: Uint8Array }
  | { readonly kind: "round"; readonly announced: Announcement | undefined }
  | { readonly kind: "abort"; readonly cause: PlainError }
  | { readonly kind: "left"; readonly rank: number; readonly failure: PlainError };

interface Announcement {
  readonly parity: 0 | 1;
  readonly header: Int32Array;
  readonly staged: Uint8Array;
}

/** A slice of a tensor that a peer will send: where it lands, and how long it is. */
interface Landing {
  readonly address: number;
  readonly bytes: number;
}

/** A slice of the tensor of a record. */
interface Slice {
  readonly elementBytes: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  /** Bytes from the tensor's first element to the slice's. */
  readonly skipped: number;
}

const SPIN_POLLS = 20;
/** How long a rank sleeps between two polls, in milliseconds. Nobody wakes it. */
const POLL_MS = 0.05;
/** 128 bytes. */
const LINE_WORDS = 32;

const wholeLines = (words: number): number => Math.ceil(words / LINE_WORDS) * LINE_WORDS;

/** Words that the transport needs in the memory of each rank. */
export function pipeWords(size: number, stagingBytes: number): number {
  const fixed = wholeLines(operandTableWords(size)) + wholeLines(FLIGHT_RING_WORDS);
  return fixed + 2 * size * (LINE_WORDS + wholeLines(stagingBytes / 4));
}

export class PipeTransport implements Transport, SliceExchange {
  readonly rank: number;
  readonly size: number;
  readonly slices: SliceExchange = this;
  readonly words: Int32Array;
  readonly operandTable = 0;
  readonly flightRing: number;
  readonly stagingBytes: number;
  parity: 0 | 1 = 1;
  readonly #byteOffset: number;
  readonly #headers: number;
  readonly #stagings: number;
  readonly #buffer: ArrayBufferLike;
  /** Where slices land. */
  readonly #landings: SharedHeap;
  /** To every rank, by place; none to itself. */
  readonly #pipes: readonly (MessagePort | undefined)[];
  /** From the host, which tells who is gone. */
  readonly #host: MessagePort;
  #published = 0;
  readonly #arrived: number[];
  /** What came and was not taken yet, and what will be taken, in order. */
  readonly #slices: Uint8Array[][];
  readonly #takes: Landing[][];
  readonly #failures: (Error | undefined)[];
  #allocated: number[] = [];
  #hasTurned = false;
  #filled = 0;
  #cause: Error | undefined;
  readonly #idle = new Int32Array(new SharedArrayBuffer(4));

  /** The transport's rooms begin at `byteOffset` of the rank's memory. */
  constructor(
    rank: number,
    pipes: readonly (MessagePort | undefined)[],
    host: MessagePort,
    byteOffset: number,
    stagingBytes: number,
    landings: SharedHeap,
  ) {
    const size = pipes.length;
    this.rank = rank;
    this.size = size;
    this.stagingBytes = stagingBytes;
    this.flightRing = wholeLines(operandTableWords(size));
    this.#headers = this.flightRing + wholeLines(FLIGHT_RING_WORDS);
    this.#stagings = this.#headers + 2 * size * LINE_WORDS;
    this.#buffer = landings.buffer;
    this.words = new Int32Array(this.#buffer, byteOffset, pipeWords(size, stagingBytes));
    this.#byteOffset = byteOffset;
    this.#landings = landings;
    this.#pipes = pipes;
    this.#host = host;
    this.#arrived = pipes.map(() => 0);
    this.#slices = pipes.map(() => []);
    this.#takes = pipes.map(() => []);
    this.#failures = pipes.map(() => undefined);
  }

  addressOf(word: number): number {
    return this.#byteOffset + word * 4;
  }

  header(rank: number): number {
    return this.#headerOf(rank, this.parity);
  }

  #headerOf(rank: number, parity: 0 | 1): number {
    return this.#headers + (2 * rank + parity) * LINE_WORDS;
  }

  staging(rank: number): number {
    return this.#stagingOf(rank, this.parity);
  }

  #stagingOf(rank: number, parity: 0 | 1): number {
    return this.#stagings + (2 * rank + parity) * wholeLines(this.stagingBytes / 4);
  }

  stagingAddress(rank: number, parity: 0 | 1): number {
    return this.addressOf(this.#stagingOf(rank, parity));
  }

  turn(): void {
    for (const address of this.#allocated) this.#landings.release(address);
    this.#allocated = [];
    this.parity = this.parity === 0 ? 1 : 0;
    this.#hasTurned = true;
    this.#filled = 0;
  }

  fill(bytes: number): void {
    this.#filled = bytes;
  }

  publish(): void {
    this.#published++;
    const header = this.header(this.rank);
    const announced: Announcement | undefined =
      this.#hasTurned || this.#filled > 0
        ? {
            parity: this.parity,
            header: this.words.slice(header, header + HEADER_WORDS),
            staged: this.#copyOf(this.stagingAddress(this.rank, this.parity), this.#filled),
          }
        : undefined;
    this.#hasTurned = false;
    this.#filled = 0;
    this.#sendAll({ kind: "round", announced });
  }

  hasArrived(peer: number): boolean {
    if (peer === this.rank) return true;
    if (this.#arrived[peer] !== this.#published) this.#poll();
    // A peer may be a round ahead, never two.
    if ((this.#arrived[peer] ?? 0) < this.#published) return false;
    this.land(peer);
    return true;
  }

  spin(peer: number): boolean {
    for (let poll = 0; poll < SPIN_POLLS; poll++) if (this.hasArrived(peer)) return true;
    return false;
  }

  wait(peer: number, _turn: number, now: number, until: number): number {
    let time = now;
    while (!this.hasArrived(peer) && time < until && this.#cause === undefined) {
      Atomics.wait(this.#idle, 0, 0, POLL_MS);
      time = performance.now();
    }
    return time;
  }

  async waitAsync(peer: number, now: number, until: number): Promise<number> {
    let time = now;
    while (!this.hasArrived(peer) && time < until && this.#cause === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      time = performance.now();
    }
    return time;
  }

  give(peer: number, record: number, axis: number, start: number, count: number): void {
    const { elementBytes, shape, strides, skipped } = this.#slice(record, axis, start, count);
    const from = new Uint8Array(this.#buffer, recordAddress(this.words, record) + skipped);
    const bytes = new Uint8Array(elementCount(shape) * elementBytes);
    forEachOffset(shape, strides, (offset, index) => {
      for (let byte = 0; byte < elementBytes; byte++) {
        bytes[index * elementBytes + byte] = from[offset * elementBytes + byte] ?? 0;
      }
    });
    // Transferring refuses what is shared.
    this.#pipes[peer]?.postMessage({ kind: "slice", bytes } satisfies Frame, [bytes.buffer]);
  }

  share(record: number, axis: number, start: number, count: number): void {
    for (let peer = 0; peer < this.size; peer++) if (peer !== this.rank) this.give(peer, record, axis, start, count);
  }

  takeShared(peer: number, record: number, axis: number, start: number, count: number): void {
    this.take(peer, record, axis, start, count);
  }

  take(peer: number, record: number, axis: number, start: number, count: number): void {
    const { elementBytes, shape } = this.#slice(record, axis, start, count);
    const bytes = elementCount(shape) * elementBytes;
    const address = this.#landings.allocate(bytes);
    this.#allocated.push(address);
    this.#takes[peer]?.push({ address, bytes });
    // The slice is packed. Its first element is where the one with index `start` would be if all of the tensor were
    // here.
    let step = 1;
    let skipped = axis === FLAT ? start : 0;
    for (let dim = shape.length - 1; axis !== FLAT && dim >= 0; dim--) {
      this.words[recordStrides(record) + dim] = step;
      if (dim === axis) skipped = start * step;
      step *= shape[dim] ?? 0;
    }
    setRecordAddress(this.words, record, address - skipped * elementBytes);
  }

  exchange(): void {
    this.publish();
  }

  #slice(record: number, axis: number, start: number, count: number): Slice {
    const head = this.words[record] ?? 0;
    const dims = head >>> 8;
    const elementBytes = DTYPE_BYTES[DTYPES[head & 0xff] ?? "u8"];
    if (axis === FLAT) return { elementBytes, shape: [count], strides: [1], skipped: start * elementBytes };
    const [shapeWord, stridesWord] = [recordShape(record), recordStrides(record)];
    const shape = Array.from(this.words.subarray(shapeWord, shapeWord + dims));
    const strides = Array.from(this.words.subarray(stridesWord, stridesWord + dims));
    if (axis === WHOLE) return { elementBytes, shape, strides, skipped: 0 };
    shape[axis] = count;
    return { elementBytes, shape, strides, skipped: start * (strides[axis] ?? 0) * elementBytes };
  }

  /** Brings slices that have come to where they are awaited. */
  protected land(peer: number): void {
    for (const { address, bytes } of this.#takes[peer]?.splice(0) ?? []) {
      const slice = this.#slices[peer]?.shift();
      if (slice?.length !== bytes) throw new Error(`a slice of ${slice?.length} bytes came where ${bytes} were due`);
      new Uint8Array(this.#buffer, address, bytes).set(slice);
    }
  }

  get isAborted(): boolean {
    this.#poll();
    return this.#cause !== undefined;
  }

  abort(cause: Error): void {
    this.#poll();
    if (this.#cause !== undefined) return;
    const plain = toPlainError(cause);
    this.#cause = fromPlainError(plain);
    this.#sendAll({ kind: "abort", cause: plain });
  }

  abortCause(): Error {
    return this.#cause ?? new Error("the group is not aborted");
  }

  failureOf(peer: number): Error | undefined {
    return this.#failures[peer];
  }

  /** Peers poll. */
  nudge(): void {}

  /** Its pipes end with the worker. */
  close(): void {}

  /** Tells the peers that this rank will not take part in what they are doing. */
  leave(failure: Error): void {
    this.#sendAll({ kind: "left", rank: this.rank, failure: toPlainError(failure) });
  }

  /** Forgets that peers left: they take part again. */
  forgive(): void {
    this.#poll();
    this.#failures.fill(undefined);
  }

  #poll(): void {
    for (const [peer, pipe] of this.#pipes.entries()) if (pipe !== undefined) this.#drain(pipe, peer);
    this.#drain(this.#host, this.rank);
  }

  #drain(pipe: MessagePort, peer: number): void {
    for (;;) {
      const received = receiveMessageOnPort(pipe as unknown as Parameters<typeof receiveMessageOnPort>[0]);
      if (received === undefined) return;
      this.#receive(received.message as Frame, peer);
    }
  }

  #receive(frame: Frame, peer: number): void {
    if (frame.kind === "slice") this.#slices[peer]?.push(frame.bytes);
    else if (frame.kind === "abort") this.#cause ??= fromPlainError(frame.cause);
    else if (frame.kind === "left") this.#failures[frame.rank] ??= fromPlainError(frame.failure);
    else {
      this.#arrived[peer] = (this.#arrived[peer] ?? 0) + 1;
      if (frame.announced === undefined) return;
      const { parity, header, staged } = frame.announced;
      this.words.set(header, this.#headerOf(peer, parity));
      new Uint8Array(this.#buffer, this.stagingAddress(peer, parity), staged.length).set(staged);
    }
  }

  /** Bytes of this rank's memory, in no memory that is shared. */
  #copyOf(address: number, bytes: number): Uint8Array {
    const copy = new Uint8Array(bytes);
    copy.set(new Uint8Array(this.#buffer, address, bytes));
    return copy;
  }

  #sendAll(frame: Frame): void {
    for (const pipe of this.#pipes) pipe?.postMessage(frame);
  }
}
