import { expect, test } from "bun:test";
import { SharedHeap } from "@lockstep/tensor";
import { type TextToken, TokenStream } from "./token-stream.ts";
import { outcomeOf } from "../../../../tests/outcome-of.ts";

const heap = SharedHeap.create(65536);

async function collect(tokens: AsyncGenerator<TextToken>): Promise<number[]> {
  const all: number[] = [];
  for await (const { text, token } of tokens) all.push(100 * text + token);
  return all;
}

test("tokens come as they are written, and all of them before the end", async () => {
  const stream = TokenStream.create(heap, 8);
  const writer = TokenStream.open(stream.descriptor, heap);
  const done = Promise.withResolvers<void>();
  const reader = stream.read(done.promise);
  writer.push({ text: 1, token: 5 });
  expect(await reader.next()).toEqual({ value: { text: 1, token: 5 }, done: false });
  const waiting = reader.next();
  setTimeout(() => writer.push({ text: 1, token: 6 }), 20);
  expect(await waiting).toEqual({ value: { text: 1, token: 6 }, done: false });
  writer.push({ text: 1, token: 7 });
  writer.push({ text: 1, token: 8 });
  done.resolve();
  expect(await collect(reader)).toEqual([107, 108]);
});

test("a cleared stream starts again", async () => {
  const stream = TokenStream.create(heap, 2);
  for (const token of [3, 4]) {
    stream.clear();
    stream.push({ text: 1, token: token });
    expect(await collect(stream.read(Promise.resolve()))).toEqual([100 + token]);
  }
});

test("a writer that fails ends the reading with its error, after what it wrote", async () => {
  const stream = TokenStream.create(heap, 2);
  const failure = Promise.withResolvers<void>();
  const reader = stream.read(failure.promise);
  stream.push({ text: 1, token: 1 });
  expect((await reader.next()).value).toEqual({ text: 1, token: 1 });
  failure.reject(new Error("rank 1 crashed"));
  expect(await outcomeOf(reader.next())).toThrow("rank 1 crashed");
});

test("leaving early waits for the writer", async () => {
  const stream = TokenStream.create(heap, 2);
  const done = Promise.withResolvers<void>();
  const reader = stream.read(done.promise);
  stream.push({ text: 1, token: 1 });
  await reader.next();
  let left = false;
  const leaving = reader.return().then(() => {
    left = true;
  });
  await Bun.sleep(5);
  expect(left).toBe(false);
  done.resolve();
  await leaving;
  expect(left).toBe(true);
});
