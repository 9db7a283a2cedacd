// The ranks' side of the soak: does the steps of the schedule, and checks every element of every result.

import {
  type DType,
  type ElementArray,
  forEachOffset,
  numberToBfloat16,
  numberToFloat16,
  Tensor,
} from "@lockstep/tensor";
import { chunkStart, type ProcessGroup, type RankContext } from "../../src/index.ts";
import { MOST_ELEMENTS, type SoakStep, soakStep } from "./schedule.ts";

/** Values are small whole numbers, so that every dtype holds the sum of 8 of them exactly. */
const VALUES = 16;

/** What a call has done on this rank. */
export interface SoakReport {
  readonly steps: number;
  readonly elementsChecked: number;
}

export function setup(context: RankContext) {
  const { heap, size } = context;
  const pool = Array.from({ length: 4 }, () => Tensor.empty(heap, "u8", [(MOST_ELEMENTS + 8) * size * 2 * 4]));
  let elementsChecked = 0;

  /** A tensor of `count` elements in the pool, every other element of it when strided. */
  function place(slot: number, dtype: DType, count: number, strided: boolean): Tensor {
    const base = pool[slot] ?? pool[0];
    if (base === undefined) throw new Error("no pool");
    const { descriptor } = base;
    const shape = [count];
    return Tensor.fromDescriptor({ ...descriptor, dtype, shape, strides: [strided ? 2 : 1] }, heap);
  }

  function write(tensor: Tensor, value: (index: number) => number): void {
    const { elements, dtype } = tensor;
    forEachOffset(tensor.shape, tensor.strides, (offset, index) => {
      elements[offset] = encode(dtype, value(index));
    });
  }

  function expectAll(step: SoakStep, number: number, tensor: Tensor, value: (index: number) => number): void {
    const { elements, dtype }: { elements: ElementArray; dtype: DType } = tensor;
    forEachOffset(tensor.shape, tensor.strides, (offset, index) => {
      const wanted = encode(dtype, value(index));
      if (elements[offset] === wanted) return;
      throw new Error(
        `step ${number}, rank ${context.rank}, ${JSON.stringify(step)}: ` +
          `element ${index} is ${elements[offset]} instead of ${wanted} (raw)`,
      );
    });
    elementsChecked += tensor.size;
  }

  function run(group: ProcessGroup, step: SoakStep, number: number): void {
    const { rank, size: ranks } = group;
    const { collective, dtype, count, extra, strided, inPlace, salt } = step;
    const brought = (of: number, index: number): number => ((of + 1) * 5 + index * 3 + salt) % VALUES;
    const sum = (index: number): number => {
      let total = 0;
      for (let of = 0; of < ranks; of++) total += brought(of, index);
      return total;
    };
    const length = count * ranks + extra;
    const [start, end] = [chunkStart(length, rank, ranks), chunkStart(length, rank + 1, ranks)];
    const chunkOf = (tensor: Tensor): Tensor => tensor.slice(0, start, end);
    const check = (tensor: Tensor, value: (index: number) => number): void => expectAll(step, number, tensor, value);
    switch (collective) {
      case "barrier":
        group.barrier();
        return;
      case "allGather": {
        const output = place(0, dtype, length, strided);
        const input = inPlace ? chunkOf(output) : place(1, dtype, end - start, strided);
        write(output, () => 99);
        write(input, (index) => brought(0, start + index));
        group.allGather(input, output);
        check(output, (index) => brought(0, index));
        return;
      }
      case "allGatherCoalesced": {
        const [output, lse] = [place(0, dtype, length, strided), place(1, "f32", ranks, false)];
        const [input, own] = [place(2, dtype, end - start, strided), place(3, "f32", 1, false)];
        write(input, (index) => brought(0, start + index));
        write(own, () => brought(rank, 1));
        group.allGatherCoalesced([own, input], [lse, output]);
        check(output, (index) => brought(0, index));
        check(lse, (index) => brought(index, 1));
        return;
      }
      case "reduceScatter": {
        const input = place(0, dtype, length, strided);
        const output = inPlace ? chunkOf(input) : place(1, dtype, end - start, strided);
        write(input, (index) => brought(rank, index));
        group.reduceScatter(input, output);
        check(output, (index) => sum(start + index));
        return;
      }
      case "allReduce": {
        const input = place(0, dtype, count + extra, strided);
        const output = inPlace ? input : place(1, dtype, count + extra, false);
        write(input, (index) => brought(rank, index));
        group.allReduce(input, output);
        check(output, sum);
        return;
      }
      case "allToAll": {
        const split = (slot: number): Tensor[] =>
          group.ranks.map((_, peer) => {
            const whole = place(slot, dtype, ranks * count, strided);
            return whole.slice(0, peer * count, (peer + 1) * count);
          });
        const [inputs, outputs] = [split(0), split(1)];
        for (const [peer, input] of inputs.entries()) write(input, (index) => brought(rank, index + peer));
        group.allToAll(inputs, outputs);
        for (const [peer, output] of outputs.entries()) check(output, (index) => brought(peer, index + rank));
        return;
      }
      case "broadcast": {
        const root = salt % ranks;
        const tensor = place(0, dtype, count, strided);
        write(tensor, (index) => (rank === root ? brought(root, index) : 99));
        group.broadcast(tensor, root);
        check(tensor, (index) => brought(root, index));
        return;
      }
      case "sendRecv": {
        const by = salt % ranks;
        const [to, from] = [(rank + by) % ranks, (rank + ranks - by) % ranks];
        const [sent, received] = [place(0, dtype, count, strided), place(1, dtype, count, false)];
        write(sent, (index) => brought(rank, index));
        group.sendRecv(sent, to, received, from);
        check(received, (index) => brought(from, index));
        return;
      }
      case "readPeers": {
        const own = place(0, dtype, count + rank, strided);
        write(own, (index) => brought(rank, index));
        group.readPeers([own], (tensors) => {
          for (const [peer, [tensor]] of tensors.entries()) {
            if (tensor?.size !== count + peer) throw new Error(`step ${number}: readPeers gave ${tensor}`);
            check(tensor, (index) => brought(peer, index));
          }
        });
      }
    }
  }

  return {
    /** Does `steps` steps from `first` on. */
    soak(seed: number, first: number, steps: number, groups: readonly string[]): SoakReport {
      elementsChecked = 0;
      for (let number = first; number < first + steps; number++) {
        const step = soakStep(seed, number, groups);
        if (step.late % size === context.rank) busyFor(step.lateMs);
        run(context.group(step.group), step, number);
      }
      return { steps, elementsChecked };
    },
  };
}

function busyFor(milliseconds: number): void {
  const until = performance.now() + milliseconds;
  while (performance.now() < until);
}

function encode(dtype: DType, value: number): number {
  if (dtype === "f16") return numberToFloat16(value);
  return dtype === "bf16" ? numberToBfloat16(value) : value;
}
