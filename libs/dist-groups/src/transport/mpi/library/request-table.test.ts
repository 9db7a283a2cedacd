import { expect, test } from "bun:test";
import type { NativeCalls } from "./native-calls.ts";
import { RequestKind, RequestTable } from "./request-table.ts";

/** Memory whose addresses are told apart by a million. */
function memory(): { native: NativeCalls; buffers: ArrayBufferLike[] } {
  const buffers: ArrayBufferLike[] = [];
  const native: NativeCalls = {
    load: () => ({}),
    addressOf: (buffer) => buffers.push(buffer) * 1_000_000,
  };
  return { native, buffers };
}

test("slots are taken once, and again after they are free", () => {
  const { native } = memory();
  const table = new RequestTable(native);
  const first = Array.from({ length: 64 }, () => table.take(RequestKind.send));
  expect(new Set(first).size).toBe(64);
  expect(table.taken).toBe(64);
  for (const slot of first) table.release(slot);
  expect(table.taken).toBe(0);
  const again = Array.from({ length: 64 }, () => table.take(RequestKind.receive));
  expect(new Set(again)).toEqual(new Set(first));
});

test("grows with the handles, the kinds and the bytes that it holds", () => {
  const { native, buffers } = memory();
  const table = new RequestTable(native);
  const slots = Array.from({ length: 64 }, (_, i) => table.take(i % 2 === 0 ? RequestKind.send : RequestKind.receive));
  const old = buffers.at(-1) ?? new ArrayBuffer(0);
  for (const slot of slots) new DataView(old).setBigUint64(slot * 8, BigInt(slot) + 7n, true);
  table.markOver(5, 99);
  const address = table.addressOf(3);
  const added = table.take(RequestKind.send);
  expect(buffers.length).toBe(2);
  expect(slots).not.toContain(added);
  expect(table.addressOf(3)).toBe(address + 1_000_000);
  const grown = new DataView(buffers.at(-1) ?? new ArrayBuffer(0));
  for (const slot of slots) expect(grown.getBigUint64(slot * 8, true)).toBe(BigInt(slot) + 7n);
  expect(table.kind(5)).toBe(RequestKind.over);
  expect(table.bytesOf(5)).toBe(99);
  expect(table.kind(4)).toBe(RequestKind.send);
  const rest = Array.from({ length: 63 }, () => table.take(RequestKind.send));
  expect(new Set([...slots, added, ...rest]).size).toBe(128);
  expect(buffers.length).toBe(2);
});

test("what is no slot, and what is free, holds none", () => {
  const { native } = memory();
  const table = new RequestTable(native);
  for (const slot of [-1, 0.5, 64, Number.NaN, table.take(RequestKind.none)]) {
    expect(table.kind(slot)).toBe(RequestKind.none);
  }
});
