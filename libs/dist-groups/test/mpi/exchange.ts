// What each thread of exchange-program.ts does: messages of all sizes to and from every process, itself included, with
// probes and with receives that wait; receives that are cancelled; all bytes compared.

import { attachMpi } from "../../src/transport/mpi/library/attach-mpi.ts";
import type { Mpi, MpiHandles } from "../../src/transport/mpi/library/mpi.ts";
import { openNativeScheduler } from "../../src/transport/shared-memory/native-scheduler.ts";

const scheduler = openNativeScheduler();

/** What a thread has to do. */
export interface ThreadJob {
  readonly handles: MpiHandles;
  /** Number of the thread in its process; it exchanges with those of the same number. */
  readonly thread: number;
  /** What its buffers are in. */
  readonly memory: "shared" | "webassembly";
}

const SIZES = [0, 1, 4096, 65_536, 1 << 20];
const MOST_BYTES = 1 << 20;
const ROUNDS = 2;
const TAGS_OF_THREAD = 100;
const NOBODY_SENDS = 90;
const WAIT_MS = 60_000;
/** What is in a receiver's buffer where nothing was received. */
const UNTOUCHED = 0xee;

/** Exchanges messages. Returns how many were received. @throws Error when anything is not as it should be */
export function exchange({ handles, thread, memory }: ThreadJob): number {
  const mpi = attachMpi(handles);
  const { rank, size } = mpi;
  const slot = MOST_BYTES + 64;
  const buffer = memoryOf(memory, 2 * size * slot);
  const address = mpi.addressOf(buffer);
  const bytesAt = (index: number, length: number): Uint8Array => new Uint8Array(buffer, index * slot, length);
  let received = 0;
  for (let round = 0; round < ROUNDS; round++) {
    for (const [index, bytes] of SIZES.entries()) {
      const tag = thread * TAGS_OF_THREAD + round * 10 + index;
      const isProbed = (round + index) % 2 === 0;
      const into = (peer: number): number => address + (size + peer) * slot;
      new Uint8Array(buffer, size * slot, size * slot).fill(UNTOUCHED);
      const receives = new Map<number, number>();
      if (!isProbed)
        for (let peer = 0; peer < size; peer++) receives.set(peer, mpi.irecv(into(peer), bytes, peer, tag));
      const sends = Array.from({ length: size }, (_, peer) => {
        pattern(bytesAt(peer, bytes), rank, peer, tag);
        return mpi.isend(address + peer * slot, bytes, peer, tag);
      });
      if (isProbed) {
        // Each process sends one message with this tag.
        until(`messages with tag ${tag}`, () => {
          if (!mpi.probe(tag)) return false;
          const { probedSource: from, probedBytes: length } = mpi;
          same(`length of the message of ${from}`, length, bytes);
          same(`messages of ${from} before`, receives.has(from) ? 1 : 0, 0);
          receives.set(from, mpi.receiveProbed(into(from), bytes));
          return receives.size === size;
        });
      }
      for (const [peer, request] of receives) {
        until(`the message of ${peer} with tag ${tag}`, () => mpi.test(request));
        same(`bytes that ${peer} sent`, mpi.receivedBytes, bytes);
        received++;
      }
      for (const [peer, request] of sends.entries()) until(`sending to ${peer}`, () => mpi.test(request));
      for (let peer = 0; peer < size; peer++) {
        const expected = pattern(new Uint8Array(bytes), peer, rank, tag);
        const came = bytesAt(size + peer, bytes + 64);
        for (let i = 0; i < bytes + 64; i++) {
          if (came[i] === (i < bytes ? expected[i] : UNTOUCHED)) continue;
          throw new Error(`rank ${rank}, thread ${thread}, tag ${tag}: byte ${i} of ${bytes} from ${peer}: ${came[i]}`);
        }
      }
    }
    cancelled(mpi, address, thread * TAGS_OF_THREAD + NOBODY_SENDS);
  }
  meet(mpi, thread * TAGS_OF_THREAD + NOBODY_SENDS + 1);
  same("requests that are open", mpi.openRequests, 0);
  return received;
}

/** Returns once every process is here: each tells each. */
export function meet(mpi: Mpi, tag: number): void {
  const requests: number[] = [];
  for (let peer = 0; peer < mpi.size; peer++) requests.push(mpi.irecv(0, 0, peer, tag), mpi.isend(0, 0, peer, tag));
  for (const request of requests) until("all processes", () => mpi.test(request));
}

function cancelled(mpi: Mpi, address: number, tag: number): void {
  for (let peer = 0; peer < mpi.size; peer++) {
    const request = mpi.irecv(address, 64, peer, tag);
    same("a receive that nobody sends to", mpi.test(request) ? 1 : 0, 0);
    same("its cancelling", mpi.cancel(request) ? 1 : 0, 1);
  }
}

function memoryOf(kind: ThreadJob["memory"], bytes: number): SharedArrayBuffer | ArrayBuffer {
  if (kind === "shared") return new SharedArrayBuffer(bytes);
  const pages = Math.ceil(bytes / 65_536);
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true }).buffer;
}

function pattern(target: Uint8Array, from: number, to: number, tag: number): Uint8Array {
  for (let i = 0; i < target.length; i++) target[i] = (i * 7 + (i >> 8) * 13 + from * 101 + to * 31 + tag) & 0xff;
  return target;
}

function until(what: string, isDone: () => boolean): void {
  const end = performance.now() + WAIT_MS;
  while (!isDone()) {
    if (performance.now() > end) throw new Error(`waited ${WAIT_MS} ms for ${what}`);
    // The thread that is waited for may need this core.
    scheduler?.yieldCore();
  }
}

function same(what: string, came: number, expected: number): void {
  if (came !== expected) throw new Error(`${what}: expected ${expected}, got ${came}`);
}
