// Ranks of one process over a network that counts: nothing of what they tell each other is given to MPI, and they read
// nothing before it is there.

import { describe, expect, test } from "bun:test";
import { Tensor } from "@lockstep/tensor";
import { type CountedGroup, openCountedGroup } from "../../../test/mpi/counted-group.ts";
import { GroupAborted } from "../../errors/errors.ts";
import { headersAgree, writeHeader } from "../../wire/collective-header.ts";
import { HEAD_BYTES } from "./announcement-rooms.ts";

/** Elements that each rank brings, of 4 bytes. */
const COUNT = 512;
const BYTES = COUNT * 4;

function member({ ranks }: CountedGroup, rank: number): CountedGroup["ranks"][number] {
  const found = ranks[rank];
  if (found === undefined) throw new Error(`there is no rank ${rank}`);
  return found;
}

/** Messages between processes, and how many bytes they were, without those of headers alone. */
function crossed({ network }: CountedGroup): { readonly within: number; readonly data: number[][] } {
  const data = [0, 1].map((from) =>
    [0, 1].map((to) =>
      network.given
        .filter((message) => message.from === from && message.to === to && message.bytes > HEAD_BYTES)
        .reduce((sum, { bytes }) => sum + bytes, 0),
    ),
  );
  return { within: network.given.filter(({ from, to }) => from === to).length, data };
}

async function gather(group: CountedGroup): Promise<number[][]> {
  return Promise.all(
    group.ranks.map(async ({ heap, group: collectives }, rank) => {
      const input = Tensor.zeros(heap, "f32", [COUNT]);
      input.fill(rank + 1);
      const output = Tensor.zeros(heap, "f32", [COUNT * group.ranks.length]);
      await collectives.allGather(input, output);
      // What is written from now on no peer reads.
      input.fill(-1);
      return [...output.toNumbers()];
    }),
  );
}

const gathered = (size: number): number[] =>
  Array.from({ length: size * COUNT }, (_, index) => 1 + Math.floor(index / COUNT));

describe.each([
  ["direct", 0],
  ["staged", BYTES],
] as const)("%s", (_, stagedLimit) => {
  test("ranks of one process give nothing to MPI for each other", async () => {
    const alone = await openCountedGroup(3, 1, stagedLimit);
    for (let round = 0; round < 3; round++) {
      for (const output of await gather(alone)) expect(output).toEqual(gathered(3));
    }
    expect(alone.network.given).toEqual([]);
  });

  test("only what another process needs crosses, of every collective", async () => {
    const group = await openCountedGroup(4, 2, stagedLimit);
    const { ranks } = group;
    for (const output of await gather(group)) expect(output).toEqual(gathered(4));
    const reduced = await Promise.all(
      ranks.map(async ({ heap, group: collectives }, rank) => {
        const tensor = Tensor.zeros(heap, "f32", [COUNT]);
        tensor.fill(rank + 1);
        await collectives.allReduce(tensor, tensor);
        const part = Tensor.zeros(heap, "f32", [COUNT / 4]);
        await collectives.reduceScatter(tensor, part);
        await collectives.broadcast(tensor, 3);
        const inputs = ranks.map((_, to) => tensor.slice(0, to, to + 1));
        const outputs = ranks.map(() => Tensor.zeros(heap, "f32", [1]));
        await collectives.allToAll(inputs, outputs);
        await collectives.barrier();
        return [tensor.toNumbers()[0], part.toNumbers()[0], outputs[rank]?.toNumbers()[0]];
      }),
    );
    expect(reduced).toEqual(ranks.map(() => [10, 40, 10]));
    expect(crossed(group).within).toBe(0);
    expect(group.network.given.length).toBeGreaterThan(0);
  });
});

test("a peer of this process has arrived only once its header is there", async () => {
  const group = await openCountedGroup(2, 1);
  const [first, second] = [member(group, 0).transport, member(group, 1).transport];
  for (const signature of [11, 12, 13]) {
    for (const transport of [first, second]) {
      transport.turn();
      writeHeader(transport.words, transport.header(transport.rank), signature, 0, []);
    }
    first.publish();
    expect(first.hasArrived(1)).toBe(false);
    second.publish();
    expect(first.hasArrived(1)).toBe(true);
    expect(second.hasArrived(0)).toBe(true);
    expect(headersAgree(first.words, first.header(0), first.header(1))).toBe(true);
    // Nor do the slices of a round count as there before the peer has come to it.
    first.exchange();
    expect(first.hasArrived(1)).toBe(false);
    second.exchange();
    expect(first.hasArrived(1)).toBe(true);
  }
});

test("what an earlier group has left in the block is not taken for a peer", async () => {
  const group = await openCountedGroup(2, 1);
  const { transport } = member(group, 0);
  const peer = member(group, 1).transport;
  // As a peer's line is before it joins: that of an earlier group, further on and aborted.
  peer.publish();
  peer.publish();
  peer.aborted(new Error("of an earlier group"));
  const [block] = group.blocks;
  if (block === undefined) throw new Error("there is no block");
  const line = new Int32Array(block.buffer, block.start + HEAD_BYTES, 3);
  line[1] = 3;
  line[2] = 3;
  transport.publish();
  expect(transport.hasArrived(1)).toBe(false);
  expect(transport.isAborted).toBe(false);
});

test("an abort reaches the ranks of the process without a message, and is seen before success is reported", async () => {
  const group = await openCountedGroup(2, 1);
  const { heap, group: collectives, transport } = member(group, 0);
  const peer = member(group, 1).transport;
  const input = Tensor.zeros(heap, "f32", [COUNT]);
  const output = Tensor.zeros(heap, "f32", [2 * COUNT]);
  const other = Tensor.zeros(member(group, 1).heap, "f32", [COUNT]);
  const theirs = Tensor.zeros(member(group, 1).heap, "f32", [2 * COUNT]);
  const outcomes = Promise.all([
    collectives.allGather(input, output).then(
      () => undefined,
      (error: unknown) => error,
    ),
    member(group, 1)
      .group.allGather(other, theirs)
      .then(
        () => undefined,
        (error: unknown) => error,
      ),
  ]);
  // Somebody elsewhere has told rank 1, which may write to its tensors from now on; rank 0 has no such letter.
  peer.aborted(new Error("told by another process"));
  const [own] = await outcomes;
  expect(own).toBeInstanceOf(GroupAborted);
  expect(String((own as GroupAborted).cause)).toContain("told by another process");
  expect(transport.isAborted).toBe(true);
  expect(group.network.given).toEqual([]);
});

test("an abort of a rank is a letter to ranks of other processes alone, and one to the leader", async () => {
  const group = await openCountedGroup(4, 2);
  member(group, 2).transport.abort(new Error("given up"));
  expect(member(group, 3).transport.isAborted).toBe(true);
  expect(group.network.given.map(({ from, to }) => [from, to])).toEqual([
    [1, 0],
    [1, 0],
    [1, 0],
  ]);
});
