// Ranks of one process over a network that counts: nothing of what they tell each other is given to MPI, and they read
// nothing before it is there.

import { describe, expect, test } from "bun:test";
import { Tensor } from "@lockstep/tensor";
import { type CountedGroup, openCountedGroup } from "../../../test/mpi/counted-group.ts";
import { GroupAborted, RankCrashed } from "../../errors/errors.ts";
import { toPlainError } from "../../errors/plain-error.ts";
import { headersAgree, writeHeader } from "../../wire/collective-header.ts";
import { recordAddress, TENSOR_RECORD_WORDS, writeTensorRecord } from "../../wire/tensor-record.ts";
import { WHOLE } from "../transport.ts";
import { HEAD_BYTES } from "./announcement-rooms.ts";
import { SLICE } from "./tags.ts";

/** Elements that each rank brings, of 4 bytes. */
const COUNT = 512;
const BYTES = COUNT * 4;

function member({ ranks }: CountedGroup, rank: number): CountedGroup["ranks"][number] {
  const found = ranks[rank];
  if (found === undefined) throw new Error(`there is no rank ${rank}`);
  return found;
}

/** Messages within a process, and bytes of slices by their processes: from, to. */
function crossed({ network }: CountedGroup): { readonly within: number; readonly data: number[][] } {
  const data = [0, 1].map((from) =>
    [0, 1].map((to) =>
      network.given
        .filter((message) => message.from === from && message.to === to && (message.tag & 1) === SLICE)
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

test.each([2, 3])("what everybody needs of a rank crosses once to each process: %i ranks a process", async (locals) => {
  const size = 2 * locals;
  const group = await openCountedGroup(size, 2);
  for (const output of await gather(group)) expect(output).toEqual(gathered(size));
  const each = locals * BYTES;
  const nothing = 0;
  expect(crossed(group)).toEqual({
    within: 0,
    data: [
      [nothing, each],
      [each, nothing],
    ],
  });

  group.network.given.length = 0;
  const tensors = group.ranks.map(({ heap }, rank) => {
    const tensor = Tensor.zeros(heap, "f32", [size * COUNT]);
    tensor.fill(rank + 1);
    return tensor;
  });
  const everywhere = (call: (rank: (typeof group.ranks)[number], tensor: Tensor) => Promise<void>): Promise<unknown> =>
    Promise.all(group.ranks.map((rank, at) => call(rank, tensors[at] ?? Tensor.zeros(rank.heap, "f32", [1]))));
  await everywhere((rank, tensor) => rank.group.broadcast(tensor, size - 1));
  for (const tensor of tensors) expect(new Set(tensor.toNumbers())).toEqual(new Set([size]));
  expect(crossed(group)).toEqual({
    within: 0,
    data: [
      [nothing, nothing],
      [size * BYTES, nothing],
    ],
  });

  group.network.given.length = 0;
  await everywhere((rank, tensor) => rank.group.allReduce(tensor, tensor));
  for (const tensor of tensors) expect(new Set(tensor.toNumbers())).toEqual(new Set([size * size]));
  // Each of a process's ranks sends each of the other's its chunk, then its own chunk of the sum to one of them.
  const reduced = locals * locals * BYTES + locals * BYTES;
  expect(crossed(group)).toEqual({
    within: 0,
    data: [
      [nothing, reduced],
      [reduced, nothing],
    ],
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

/** Rank 2 shares a tensor, which rank 0 lands and rank 1 reads; all have announced it. */
async function sharing(): Promise<CountedGroup> {
  const group = await openCountedGroup(4, 2);
  const sender = member(group, 2);
  const tensor = Tensor.zeros(sender.heap, "f32", [COUNT]);
  tensor.fill(3);
  for (const { transport } of group.ranks) {
    transport.turn();
    writeHeader(transport.words, transport.header(transport.rank), 11, 0, []);
  }
  writeTensorRecord(sender.transport.words, sender.transport.staging(2), tensor);
  sender.transport.fill(TENSOR_RECORD_WORDS * 4);
  for (const { transport } of group.ranks) transport.publish();
  for (const { transport } of group.ranks) {
    for (const peer of group.ranks.keys()) if (peer !== transport.rank) expect(transport.hasArrived(peer)).toBe(true);
  }
  sender.transport.share(sender.transport.staging(2), WHOLE, 0, 0);
  sender.transport.exchange();
  return group;
}

test("what another rank of the process lands is there once that rank has said so", async () => {
  const group = await sharing();
  const [lander, reader] = [member(group, 0).transport, member(group, 1).transport];
  reader.takeShared(2, reader.staging(2), WHOLE, 0, 0);
  reader.exchange();
  expect(reader.hasArrived(2)).toBe(false);
  lander.takeShared(2, lander.staging(2), WHOLE, 0, 0);
  lander.exchange();
  expect(reader.hasArrived(2)).toBe(false);
  // The lander looks at all that it lands, whomever it waits for.
  expect(lander.hasArrived(3)).toBe(true);
  expect(reader.hasArrived(2)).toBe(true);
  const address = recordAddress(reader.words, reader.staging(2));
  expect(address).toBe(recordAddress(lander.words, lander.staging(2)));
  expect([...new Float32Array(reader.words.buffer, address, COUNT)]).toEqual(new Array(COUNT).fill(3));
});

test("a rank that dies before it has landed what others are to read is why they wait in vain", async () => {
  const group = await sharing();
  const { transport: reader, mailbox } = member(group, 1);
  reader.takeShared(2, reader.staging(2), WHOLE, 0, 0);
  reader.exchange();
  expect(reader.failureOf(2)).toBeUndefined();
  member(group, 0).mailbox.tellExit(toPlainError(new RankCrashed(0, "it ended")));
  mailbox.poll();
  expect(reader.failureOf(2)).toMatchObject({ rank: 0 });
  expect(reader.failureOf(3)).toBeUndefined();
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
