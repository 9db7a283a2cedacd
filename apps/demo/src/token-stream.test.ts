import { expect, test } from "bun:test";
import { SharedHeap } from "@lockstep/tensor";
import { TokenStream } from "./token-stream.ts";

const heap = SharedHeap.create(65536);

async function collect(tokens: AsyncGenerator<number>): Promise<number[]> {
  const all: number[] = [];
  for await (const token of tokens) all.push(token);
  return all;
}

test("tokens come as they are written, and all of them before the end", async () => {
  const stream = TokenStream.create(heap, 8);
  const writer = TokenStream.open(stream.descriptor, heap);
  const done = Promise.withResolvers<void>();
  const reader = stream.read(done.promise);
  writer.push(5);
  expect(await reader.next()).toEqual({ value: 5, done: false });
  const waiting = reader.next();
  setTimeout(() => writer.push(6), 20);
  expect(await waiting).toEqual({ value: 6, done: false });
  writer.push(7);
  writer.push(8);
  done.resolve();
  expect(await collect(reader)).toEqual([7, 8]);
});

test("a cleared stream starts again", async () => {
  const stream = TokenStream.create(heap, 2);
  for (const token of [3, 4]) {
    stream.clear();
    stream.push(token);
    expect(await collect(stream.read(Promise.resolve()))).toEqual([token]);
  }
});

test("a writer that fails ends the reading with its error, after what it wrote", async () => {
  const stream = TokenStream.create(heap, 2);
  const failure = Promise.withResolvers<void>();
  const reader = stream.read(failure.promise);
  stream.push(1);
  expect((await reader.next()).value).toBe(1);
  failure.reject(new Error("rank 1 crashed"));
  await expect(reader.next()).rejects.toThrow("rank 1 crashed");
});

test("leaving early waits for the writer", async () => {
  const stream = TokenStream.create(heap, 2);
  const done = Promise.withResolvers<void>();
  const reader = stream.read(done.promise);
  stream.push(1);
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
