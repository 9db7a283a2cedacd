// Calls that are refused, and requests that end in other ways than as they should, between two processes. Prints what
// each came to, as JSON.

import process from "node:process";
import { MpiFailed } from "../../src/errors/mpi-errors.ts";
import { attachMpi } from "../../src/transport/mpi/library/attach-mpi.ts";
import { finalizeMpi, initMpi } from "../../src/transport/mpi/library/init-mpi.ts";
import { meet } from "./exchange.ts";

const WAIT_MS = 30_000;
const MANY = 300;
const handles = initMpi();
const mpi = attachMpi(handles);
const buffer = new SharedArrayBuffer(4096);
const bytes = new Uint8Array(buffer);
const address = mpi.addressOf(buffer);
const peer = 1 - mpi.rank;

function came(call: () => unknown): unknown {
  try {
    return call();
  } catch (error) {
    if (error instanceof MpiFailed) return `MpiFailed of ${error.operation}: ${error.reason === "" ? "" : "told why"}`;
    return error instanceof Error ? `${error.name}: ${error.message}` : error;
  }
}

function wait(isDone: () => boolean): void {
  const end = performance.now() + WAIT_MS;
  while (!isDone()) if (performance.now() > end) throw new Error(`waited ${WAIT_MS} ms`);
}

const outcomes: Record<string, unknown> = {};
outcomes.sendToNobody = came(() => mpi.isend(address, 4, 99, 1));
outcomes.receiveFromNobody = came(() => mpi.irecv(address, 4, 99, 1));
outcomes.negativeTag = came(() => mpi.isend(address, 4, peer, -5));
outcomes.probeOfNegativeTag = came(() => mpi.probe(-5));
outcomes.negativeBytes = came(() => mpi.isend(address, -1, peer, 1));
outcomes.tooManyBytes = came(() => mpi.irecv(address, 2 ** 31, peer, 1));
outcomes.noAddress = came(() => mpi.isend(0, 4, peer, 1));
outcomes.testOfNothing = came(() => mpi.test(3));
outcomes.cancelOfNothing = came(() => mpi.cancel(3));
outcomes.receiveWithoutProbe = came(() => mpi.receiveProbed(address, 4));
outcomes.openAfterRefusals = mpi.openRequests;

// A receive that has its message cannot be cancelled, and brings it.
meet(mpi, 50);
const sent = mpi.isend(address, 100, peer, 51);
const matched = mpi.irecv(address + 1024, 100, peer, 51);
wait(() => mpi.test(sent));
meet(mpi, 52);
// Once the message of tag 53, sent after it, is here, that of tag 51 is here too.
const last = [mpi.isend(address, 0, peer, 53), mpi.irecv(0, 0, peer, 53)];
for (const request of last) wait(() => mpi.test(request));
outcomes.cancelOfMatched = mpi.cancel(matched);
wait(() => mpi.test(matched));
outcomes.bytesOfMatched = mpi.receivedBytes;
outcomes.testAfterItsEnd = came(() => mpi.test(matched));
const send = mpi.isend(address, 10, peer, 54);
outcomes.cancelOfSend = came(() => mpi.cancel(send));
wait(() => mpi.probe(54));
outcomes.probeBeforeReceive = came(() => mpi.probe(54));
const probed = mpi.receiveProbed(address + 2048, mpi.probedBytes);
for (const request of [send, probed]) wait(() => mpi.test(request));

// More requests than there was room for, ended in another order than they began.
const requests: number[] = [];
for (let i = 0; i < MANY; i++) requests.push(mpi.irecv(address + 4 * i, 4, peer, 60 + i));
const values = new Int32Array(MANY).map((_, i) => i * 3 + mpi.rank);
const from = new SharedArrayBuffer(4 * MANY);
new Int32Array(from).set(values);
const fromAddress = mpi.addressOf(from);
for (let i = MANY - 1; i >= 0; i--) requests.push(mpi.isend(fromAddress + 4 * i, 4, peer, 60 + i));
outcomes.openAtOnce = mpi.openRequests;
for (const request of requests.reverse()) wait(() => mpi.test(request));
const got = new Int32Array(buffer, 0, MANY);
outcomes.wrongValues = got.reduce((count, value, i) => count + (value === i * 3 + peer ? 0 : 1), 0);
outcomes.openAtTheEnd = mpi.openRequests;
outcomes.addressOfNothing = mpi.addressOf(new SharedArrayBuffer(0));
outcomes.addressIsOfTheFirstByte = mpi.addressOf(bytes.buffer) === address;

meet(mpi, 55);
finalizeMpi(handles);
outcomes.attachAfterTheEnd = came(() => attachMpi(handles));
console.log(JSON.stringify(outcomes));
process.exit(0);
