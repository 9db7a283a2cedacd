// The page's reader of server-sent events.
import { expect, test } from "bun:test";
import { readEvents } from "./event-stream.js";
import { outcomeOf } from "../../../../tests/outcome-of.ts";

/** The events of a body that comes in these pieces. */
async function eventsOf(...pieces: readonly (string | Uint8Array<ArrayBuffer>)[]): Promise<[string, string][]> {
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    start(controller) {
      for (const piece of pieces) controller.enqueue(typeof piece === "string" ? encoder.encode(piece) : piece);
      controller.close();
    },
  });
  const events: [string, string][] = [];
  for await (const { name, data } of readEvents(body)) events.push([name, data]);
  return events;
}

test("names, data of several lines, comments and what has no data", async () => {
  const text = ": beat\n\nevent: step\ndata: {}\n\nretry: 5\n\ndata:a\ndata:  b\nid: 7\n\nevent: gone\n\ndata: cut";
  expect(await eventsOf(text)).toEqual([
    ["step", "{}"],
    ["message", "a\n b"],
  ]);
});

test("the same, however it is cut, with every kind of line end", async () => {
  const text = "event: tokens\r\ndata: ä€😀\r\n\r\ndata: 2\n\ndata: 3\r\rdata: 4\r\n\n";
  const wanted: [string, string][] = [
    ["tokens", "ä€😀"],
    ["message", "2"],
    ["message", "3"],
    ["message", "4"],
  ];
  const bytes = new TextEncoder().encode(text);
  expect(await eventsOf(bytes)).toEqual(wanted);
  for (let at = 1; at < bytes.length; at++) expect(await eventsOf(bytes.slice(0, at), bytes.slice(at))).toEqual(wanted);
  expect(await eventsOf(...Array.from(bytes, (byte) => Uint8Array.of(byte)))).toEqual(wanted);
});

test("an event that does not end is an error", async () => {
  const piece = `data: ${"x".repeat(1 << 20)}`;
  expect(await outcomeOf(eventsOf(...Array.from({ length: 6 }, () => piece)))).toThrow("does not end");
});
