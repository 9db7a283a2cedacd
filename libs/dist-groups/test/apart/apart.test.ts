// What the tests of several processes stand on: ranks that share nothing, in a real world.
import { expect, setDefaultTimeout, test } from "bun:test";
import { Tensor } from "@lockstep/tensor";
import { openWorld } from "../../src/world/world.ts";
import { ranksApart } from "./ranks-apart.ts";
import { outcomeOf } from "../../../../tests/outcome-of.ts";

setDefaultTimeout(120_000);

type Program = typeof import("../world-program.ts");
const program = new URL("../world-program.ts", import.meta.url);

function open(size: number) {
  return openWorld<Program>({
    size,
    worker: ranksApart(program, ["pair"]),
    options: { scale: 10, gather: true },
    heapBytesPerRank: 8 << 20,
    groups: { pair: [Array.from({ length: Math.min(2, size) }, (_, rank) => rank)] },
  });
}

test.each([1, 2, 3, 4])("%i ranks that share nothing gather and sum through pipes", async (size) => {
  await using world = await open(size);
  const ranks = Array.from({ length: size }, (_, rank) => rank);
  expect(await world.call("everyone", [])).toEqual(ranks.map(() => ranks));
  const many = Array.from({ length: 3000 }, (_, index) => index);
  for (const sums of await world.call("sum", [many])) expect(sums).toEqual(many.map((value) => size * value));
  expect(await world.call("hostProcess", [])).toEqual(
    ranks.map((rank) => ({ index: rank, count: size, ranks: [rank] })),
  );
  expect(await world.call("sharesMemory", [])).toEqual(ranks.map(() => size === 1));
});

test("the host's memory is rank 0's alone, and so is everybody's own", async () => {
  await using world = await open(3);
  const tensor = Tensor.from(world.heap, "f32", [2], [1.5, -2]);
  expect(await world.callRank(0, "read", [tensor.descriptor])).toEqual([1.5, -2]);
  const refused = /heap.*the memory/s;
  expect(await outcomeOf(world.callRank(1, "read", [tensor.descriptor]))).toThrow(refused);
  const published = await world.callRank(2, "publish", [7]);
  expect(await world.callRank(2, "read", [published])).toEqual([7, 7, 7]);
  for (const rank of [0, 1]) expect(await outcomeOf(world.callRank(rank, "read", [published]))).toThrow(refused);
  expect(() => Tensor.fromDescriptor(published, world.heap)).toThrow(refused);
});

test("what is no plain data gets neither in nor out", async () => {
  const worker = ranksApart(program);
  const shared = { scale: 1, words: new Int32Array(new SharedArrayBuffer(4)) };
  expect(await outcomeOf(openWorld<Program>({ size: 2, worker, options: shared }))).toThrow(/options has a Shared/);
  await using world = await open(2);
  const words: unknown = new Int32Array(new SharedArrayBuffer(4));
  expect(await outcomeOf(world.callRank(1, "later", [words as string]))).toThrow(/arguments of later has a Shared/);
});

test("groups are made anew where the real ones are", async () => {
  await using world = await open(2);
  await world.destroyGroup("pair");
  await using _pair = await world.createGroup("pair", [1, 0]);
  expect(await world.call("groups", [["pair"]])).toMatchObject([[{ ranks: [1, 0], rank: 1 }], [{ rank: 0 }]]);
});
