// Whether a library does what its handles and layouts are taken for. A wrong one would corrupt memory or wait for ever
// somewhere later: better refused here. Every message goes from this process to itself.

import { MpiFailed, MpiUnsuitable } from "../../../errors/mpi-errors.ts";
import type { CallArea } from "./call-area.ts";
import type { Mpi } from "./mpi.ts";

/** Empty, tiny, and longer than what any library sends without asking the receiver first. */
const SIZES = [0, 1, 64, 1 << 20];
const GUARD_BYTES = 64;
const GUARD = 0xa5;
const DEADLINE_MS = 20_000;

/** MPI, and where its calls leave what they tell. */
export interface TestedMpi extends Mpi {
  readonly area: Pick<CallArea, "spoil" | "source" | "tag">;
}

/**
 * Sends messages to itself and checks what MPI tells about them.
 * @param mpi over a communicator on which nobody else sends to this process
 * @param deadlineMs for all of it, in milliseconds
 * @throws MpiUnsuitable saying what came instead of what was expected
 */
export function selfTest(mpi: TestedMpi, deadlineMs: number = DEADLINE_MS): void {
  const deadline = performance.now() + deadlineMs;
  // The smallest and the largest tag.
  for (const tag of [0, mpi.tagLimit]) {
    for (const bytes of SIZES) {
      exchange(mpi, bytes, tag, true, deadline);
      exchange(mpi, bytes, tag, false, deadline);
    }
  }
  cutOff(mpi, deadline);
  cancelReceive(mpi);
  expect("requests that are open at the end", mpi.openRequests, 0);
}

/** A message to a receive that was there before it, or to one that a probe asked for; into a longer buffer. */
function exchange(mpi: TestedMpi, bytes: number, tag: number, isProbed: boolean, deadline: number): void {
  const what = `a message of ${bytes} bytes with tag ${tag} ${isProbed ? "after a probe" : "to a waiting receive"}`;
  const sent = new Uint8Array(new SharedArrayBuffer(bytes));
  for (let i = 0; i < bytes; i++) sent[i] = (i * 31 + bytes + tag) & 0xff;
  const came = new Uint8Array(new SharedArrayBuffer(bytes + GUARD_BYTES)).fill(GUARD);
  const from = mpi.addressOf(sent.buffer);
  const into = mpi.addressOf(came.buffer);
  let receive = isProbed ? undefined : mpi.irecv(into, bytes + GUARD_BYTES, mpi.rank, tag);
  const send = mpi.isend(from, bytes, mpi.rank, tag);
  if (receive === undefined) {
    mpi.area.spoil();
    until(`a probe that finds ${what}`, () => mpi.probe(tag), deadline);
    expect(`source of ${what}, by its probe`, mpi.probedSource, mpi.rank);
    expect(`length of ${what}, by its probe`, mpi.probedBytes, bytes);
    expect(`tag of ${what}, by its probe`, mpi.area.tag, tag);
    // The buffer's length is the message's: nothing is cut off.
    receive = mpi.receiveProbed(into, bytes);
  }
  const receiving = receive;
  mpi.area.spoil();
  until(`the receive of ${what}`, () => mpi.test(receiving), deadline);
  expect(`length of ${what}`, mpi.receivedBytes, bytes);
  expect(`source of ${what}`, mpi.area.source, mpi.rank);
  expect(`tag of ${what}`, mpi.area.tag, tag);
  until(`the send of ${what}`, () => mpi.test(send), deadline);
  const wrong = sent.findIndex((byte, i) => byte !== came[i]);
  expect(`first wrong byte of ${what}`, wrong, -1);
  const guard = came.subarray(bytes).findIndex((byte) => byte !== GUARD);
  expect(`first byte written after the end of ${what}`, guard, -1);
}

/** A message that is longer than its buffer writes nothing outside of it. Not every MPI tells that it was cut off. */
function cutOff(mpi: TestedMpi, deadline: number): void {
  const sent = new Uint8Array(new SharedArrayBuffer(64));
  const came = new Uint8Array(new SharedArrayBuffer(64)).fill(GUARD);
  const receive = mpi.irecv(mpi.addressOf(came.buffer), 16, mpi.rank, 1);
  const send = mpi.isend(mpi.addressOf(sent.buffer), 64, mpi.rank, 1);
  try {
    until("the end of a receive that is too short", () => mpi.test(receive), deadline);
  } catch (error) {
    if (!(error instanceof MpiFailed)) throw error;
  }
  until("the send of a message that is too long", () => mpi.test(send), deadline);
  const written = came.subarray(16).findIndex((byte) => byte !== GUARD);
  expect("first byte written after a buffer of 16 bytes", written, -1);
}

function cancelReceive(mpi: TestedMpi): void {
  const buffer = new SharedArrayBuffer(64);
  const receive = mpi.irecv(mpi.addressOf(buffer), 64, mpi.rank, 2);
  expect("a receive that nobody sends to is done", mpi.test(receive), false);
  expect("a receive that nobody sends to can be cancelled", mpi.cancel(receive), true);
}

function until(what: string, isDone: () => boolean, deadline: number): void {
  while (!isDone()) {
    if (performance.now() > deadline) {
      throw new MpiUnsuitable(`its self-test waited in vain for ${what}: use another MPI library`);
    }
  }
}

function expect(what: string, came: number | boolean, expected: number | boolean): void {
  if (came === expected) return;
  throw new MpiUnsuitable(
    `its self-test failed: ${what}: expected ${expected}, got ${came}. ` +
      "The library is not of the layout that it looks to be of: use another one",
  );
}
