import { expect, test } from "bun:test";
import { MpiFailed, MpiUnsuitable } from "../../../errors/mpi-errors.ts";
import { selfTest, type TestedMpi } from "./self-test.ts";

/** What is wrong with a library. */
interface Faults {
  readonly source?: number;
  readonly tag?: number;
  readonly length?: number;
  /** Byte of a message that is flipped. */
  readonly flipped?: number;
  /** Bytes that are written after a message's end. */
  readonly after?: number;
  /** Bytes that are written after the end of a buffer that is too short for its message. */
  readonly afterCut?: number;
  readonly loses?: boolean;
  readonly isDoneAtOnce?: boolean;
  readonly cannotCancel?: boolean;
  readonly keepsRequests?: boolean;
  /** Tells that a message was cut off; not every MPI does. */
  readonly tellsOfCuts?: boolean;
  /** Tags above it are taken modulo. */
  readonly tagBits?: number;
}

interface Message {
  readonly bytes: Uint8Array;
  readonly tag: number;
}

interface Request {
  readonly tag: number;
  readonly address: number;
  readonly bytes: number;
  message?: Message | undefined;
  readonly isSend: boolean;
}

const RANK = 3;

/** Messages of a process to itself, with faults. Addresses are numbers that this alone understands. */
function loopback(faults: Faults): TestedMpi {
  const buffers: ArrayBufferLike[] = [];
  const waiting: Message[] = [];
  const requests = new Map<number, Request>();
  const last = { source: 0, tag: 0 };
  let next = 0;
  let probed: Message | undefined;
  const at = (address: number, bytes: number): Uint8Array => {
    const buffer = buffers[Math.floor(address / 2 ** 32) - 1] ?? new ArrayBuffer(0);
    return new Uint8Array(buffer, address % 2 ** 32, Math.min(bytes, buffer.byteLength));
  };
  const add = (request: Request): number => {
    requests.set(++next, request);
    return next;
  };
  const takeMatching = (tag: number): Message | undefined => {
    const found = waiting.findIndex((message) => message.tag === tag);
    return found < 0 ? undefined : waiting.splice(found, 1)[0];
  };
  const tell = (message: Message): void => {
    last.source = RANK + (faults.source ?? 0);
    last.tag = message.tag + (faults.tag ?? 0);
  };
  const mpi = {
    rank: RANK,
    size: 4,
    tagLimit: 1_000_000,
    probedSource: -1,
    probedBytes: 0,
    receivedBytes: 0,
    area: {
      get source() {
        return last.source;
      },
      get tag() {
        return last.tag;
      },
      spoil() {
        last.source = -77;
        last.tag = -77;
      },
    },
    get openRequests() {
      return requests.size;
    },
    addressOf: (buffer: ArrayBufferLike) => (buffer.byteLength === 0 ? 0 : buffers.push(buffer) * 2 ** 32),
    isend(address: number, bytes: number, _: number, tag: number) {
      const kept = faults.tagBits === undefined ? tag : tag % 2 ** faults.tagBits;
      const message = { bytes: at(address, bytes).slice(), tag: kept };
      if (faults.flipped !== undefined && message.bytes.length > faults.flipped) {
        message.bytes[faults.flipped] = (message.bytes[faults.flipped] ?? 0) ^ 1;
      }
      if (faults.loses !== true) waiting.push(message);
      return add({ tag, address, bytes, isSend: true });
    },
    irecv: (address: number, bytes: number, _: number, tag: number) => add({ tag, address, bytes, isSend: false }),
    probe(tag: number) {
      probed = takeMatching(tag);
      if (probed === undefined) return false;
      tell(probed);
      mpi.probedSource = last.source;
      mpi.probedBytes = probed.bytes.length + (faults.length ?? 0);
      return true;
    },
    receiveProbed: (address: number, bytes: number) =>
      add({ tag: probed?.tag ?? 0, address, bytes, message: probed, isSend: false }),
    test(number: number) {
      const request = requests.get(number);
      if (request === undefined) throw new Error(`no request ${number}`);
      const end = (): true => {
        if (faults.keepsRequests !== true) requests.delete(number);
        return true;
      };
      if (request.isSend) return end();
      const message = request.message ?? takeMatching(request.tag);
      if (message === undefined) return faults.isDoneAtOnce === true ? end() : false;
      const { bytes } = message;
      const isCut = bytes.length > request.bytes;
      const extra = isCut ? (faults.afterCut ?? 0) : (faults.after ?? 0);
      at(request.address, request.bytes + 64).set(bytes.subarray(0, request.bytes));
      for (let i = 0; i < extra; i++) at(request.address, 2 ** 31)[Math.min(bytes.length, request.bytes) + i] = 0;
      tell(message);
      mpi.receivedBytes = Math.min(bytes.length, request.bytes) + (faults.length ?? 0);
      end();
      if (isCut && faults.tellsOfCuts === true) throw new MpiFailed("MPI_Test", 15, "message truncated");
      return true;
    },
    cancel(number: number) {
      requests.delete(number);
      return faults.cannotCancel !== true;
    },
  };
  return mpi;
}

test.each([
  ["as the standard says", {}],
  ["that tells of messages that it cut off", { tellsOfCuts: true }],
])("a library %s passes", (_, faults) => {
  expect(() => selfTest(loopback(faults), 10_000)).not.toThrow();
});

test.each([
  ["a source that is not written", { source: -80 }, /source of a message.*expected 3, got -77/],
  ["another source", { source: 1 }, /source of a message.*expected 3, got 4/],
  ["another tag", { tag: 1 }, /tag of a message.*expected 0, got 1/],
  ["another length", { length: 1 }, /length of a message.*expected 0, got 1/],
  ["a wrong first byte", { flipped: 0 }, /first wrong byte of a message of 1 bytes.*got 0/],
  ["a wrong byte far inside", { flipped: 700_000 }, /first wrong byte of a message of 1048576 bytes.*got 700000/],
  ["bytes after the end", { after: 1 }, /after the end of a message.*got 0/],
  ["bytes after the end of a short buffer", { afterCut: 1 }, /after a buffer of 16 bytes.*got 0/],
  ["lost messages", { loses: true }, /waited in vain for a probe/],
  ["receives that are done without a message", { isDoneAtOnce: true }, /length of|source of|nobody sends to is done/],
  ["receives that cannot be cancelled", { cannotCancel: true }, /cancelled: expected true, got false/],
  ["requests that never end", { keepsRequests: true }, /open at the end/],
  ["tags that lose their high bits", { tagBits: 8 }, /waited in vain for a probe.*tag 1000000/],
] as const)("a library with %s is refused", (_, faults, message) => {
  const run = () => selfTest(loopback(faults), 1_000);
  expect(run).toThrow(MpiUnsuitable);
  expect(run).toThrow(message);
});
