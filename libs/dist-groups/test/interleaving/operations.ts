// The collectives of the interleaving test.

import { type SharedHeap, Tensor } from "@lockstep/tensor";
import type { ProcessGroup } from "../../src/index.ts";

const GARBAGE = -99;

/** The tensors of a rank for messages of `count` elements. */
export interface RankTensors {
  readonly count: number;
  readonly part: Tensor;
  readonly other: Tensor;
  readonly whole: Tensor;
  readonly otherWhole: Tensor;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
}

export function makeTensors(heap: SharedHeap, size: number, count: number): RankTensors {
  const make = (elements: number): Tensor => Tensor.zeros(heap, "i32", [elements]);
  const [part, other, whole, otherWhole] = [make(count), make(count), make(count * size), make(count * size)];
  const split = (tensor: Tensor): Tensor[] =>
    Array.from({ length: size }, (_, peer) => tensor.slice(0, peer * count, (peer + 1) * count));
  return { count, part, other, whole, otherWhole, inputs: split(whole), outputs: split(otherWhole) };
}

interface Turn {
  readonly seed: number;
  readonly root: number;
  readonly step: () => void;
}

type Operation = (group: ProcessGroup, tensors: RankTensors, turn: Turn) => void;

const broughtBy = (rank: number, seed: number): number => ((rank + 1) * 1000 + (seed % 997)) | 0;

function expectAll(what: string, tensor: Tensor, expected: (index: number) => number): void {
  const elements = tensor.i32;
  for (let index = 0; index < elements.length; index++) {
    if (elements[index] === expected(index)) continue;
    throw new Error(`${what}: element ${index} is ${elements[index]} instead of ${expected(index)}`);
  }
}

/** Fills inputs, runs, spoils the inputs at once, checks the outputs, spoils them. */
function exchange(
  inputs: readonly (readonly [Tensor, number])[],
  outputs: readonly Tensor[],
  run: () => void,
  check: () => void,
): void {
  for (const output of outputs) output.fill(GARBAGE);
  for (const [input, value] of inputs) input.fill(value);
  run();
  for (const [input] of inputs) if (!outputs.includes(input)) input.fill(GARBAGE);
  check();
  for (const output of outputs) output.fill(GARBAGE);
}

/** Every collective, with its check. A tensor is overwritten as soon as the rank may. */
export const OPERATIONS: readonly Operation[] = [
  (group) => group.barrier(),
  (group, _, { seed }) => group.agree("turn", { seed, text: "t".repeat(seed % 2000) }),
  (group, { part, whole, count }, { seed }) =>
    exchange(
      [[part, broughtBy(group.rank, seed)]],
      [whole],
      () => group.allGather(part, whole),
      () => expectAll("allGather", whole, (index) => broughtBy(Math.floor(index / count), seed)),
    ),
  (group, { part, other, whole, otherWhole, count }, { seed }) =>
    exchange(
      [
        [part, broughtBy(group.rank, seed)],
        [other, -broughtBy(group.rank, seed)],
      ],
      [whole, otherWhole],
      () => group.allGatherCoalesced([part, other], [whole, otherWhole]),
      () => {
        expectAll("allGatherCoalesced", whole, (index) => broughtBy(Math.floor(index / count), seed));
        expectAll("allGatherCoalesced", otherWhole, (index) => -broughtBy(Math.floor(index / count), seed));
      },
    ),
  (group, { part, whole }, { seed }) =>
    exchange(
      [[whole, broughtBy(group.rank, seed)]],
      [part],
      () => group.reduceScatter(whole, part),
      () => expectAll("reduceScatter", part, () => sumOf(group.size, seed)),
    ),
  (group, { part }, { seed }) => {
    part.fill(broughtBy(group.rank, seed));
    group.allReduce(part, part);
    expectAll("allReduce in place", part, () => sumOf(group.size, seed));
    part.fill(GARBAGE);
  },
  (group, { part, other }, { seed }) =>
    exchange(
      [[part, broughtBy(group.rank, seed)]],
      [other],
      () => group.allReduce(part, other, { op: "max" }),
      () => expectAll("allReduce", other, () => broughtBy(group.size - 1, seed)),
    ),
  (group, { inputs, outputs, otherWhole, count }, { seed }) =>
    exchange(
      inputs.map((input, peer) => [input, broughtBy(group.rank, seed) * 8 + peer] as const),
      [otherWhole],
      () => group.allToAll(inputs, outputs),
      () => expectAll("allToAll", otherWhole, (index) => broughtBy(Math.floor(index / count), seed) * 8 + group.rank),
    ),
  (group, { part }, { seed, root }) => {
    part.fill(group.rank === root ? broughtBy(root, seed) : GARBAGE);
    group.broadcast(part, root);
    expectAll("broadcast", part, () => broughtBy(root, seed));
    part.fill(GARBAGE);
  },
  (group, { part, other }, { seed }) => {
    const [next, before] = [(group.rank + 1) % group.size, (group.rank + group.size - 1) % group.size];
    exchange(
      [[part, broughtBy(group.rank, seed)]],
      [other],
      () => group.sendRecv(part, next, other, before),
      () => expectAll("sendRecv", other, () => broughtBy(before, seed)),
    );
  },
  (group, { part }, { seed, step }) => {
    part.fill(broughtBy(group.rank, seed));
    group.readPeers([part], (tensors) => {
      for (const [peer, [tensor]] of tensors.entries()) {
        if (tensor === undefined) throw new Error("readPeers: a tensor is missing");
        step();
        expectAll("readPeers", tensor, () => broughtBy(peer, seed));
      }
    });
    part.fill(GARBAGE);
  },
];

function sumOf(size: number, seed: number): number {
  return Array.from({ length: size }, (_, rank) => broughtBy(rank, seed)).reduce((sum, value) => sum + value, 0);
}
