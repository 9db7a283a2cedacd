// Tokens that the host reads while a rank writes them, on threads of their own.
import { expect, setDefaultTimeout, test } from "bun:test";
import { openWorld } from "@lockstep/dist-groups";
import { Tensor } from "@lockstep/tensor";
import { TokenStream } from "../src/generation/token-stream.ts";

setDefaultTimeout(120_000);

const open = () =>
  openWorld<typeof import("./token-writer-program.ts")>({
    size: 1,
    program: new URL("./token-writer-program.ts", import.meta.url),
    heapBytesPerRank: 1 << 20,
    heapBytesHost: 1 << 20,
  });

test("every token comes, in order, however fast they are written", async () => {
  await using world = await open();
  const count = 500;
  const stream = TokenStream.create(world.heap, count);
  for (const pauses of [[0], [10], [1000], [100_000], [0, 0, 0, 30_000], [1_000_000, 0, 0, 0, 0, 0, 0, 0, 0, 0]]) {
    stream.clear();
    const found: [number, number][] = [];
    const answer = world.call("write", [stream.descriptor, count, pauses]);
    for await (const { text, token } of stream.read(answer)) found.push([text, token]);
    expect(found).toEqual(Array.from({ length: count }, (_, token) => [token % 2, token]));
  }
});

test("a token comes without another after it, and long before the writer ends: the first as the others", async () => {
  await using world = await open();
  const [count, deadlineMs] = [200, 5_000];
  const stream = TokenStream.create(world.heap, count);
  const taken = Tensor.zeros(world.heap, "i32", [1]);
  const answer = world.call("writeInTurn", [stream.descriptor, taken.descriptor, count, deadlineMs]);
  for await (const { token } of stream.read(answer)) {
    Atomics.store(taken.i32, 0, token + 1);
    Atomics.notify(taken.i32, 0);
  }
  expect(await answer).toEqual([count]);
});
