import { ArgumentError, SharedHeap, Tensor } from "@lockstep/tensor";
import type { Determinism, ProcessGroup, RankContext, Reduction } from "../src/index.ts";

/** A call with one bad argument, made on rank 0 of 2, and the name of the argument that the error must give. */
interface BadCall {
  readonly name: string;
  readonly argument: string;
  call(group: ProcessGroup, heap: SharedHeap): void;
}

const f32 = (heap: SharedHeap, ...shape: number[]): Tensor => Tensor.zeros(heap, "f32", shape);

/** All of its elements lie at one place, so it can be read, not written. */
const repeated = (heap: SharedHeap, size: number): Tensor =>
  Tensor.fromDescriptor({ ...f32(heap, size).descriptor, strides: [0] }, heap);

const WRITTEN_TWICE: readonly BadCall[] = [
  {
    name: "allGather",
    argument: "output",
    call: (group, heap) => group.allGather(f32(heap, 2), repeated(heap, 4)),
  },
  {
    name: "allGatherCoalesced",
    argument: "outputs[1]",
    call: (group, heap) => group.allGatherCoalesced([f32(heap, 2), f32(heap, 2)], [f32(heap, 4), repeated(heap, 4)]),
  },
  {
    name: "reduceScatter",
    argument: "output",
    call: (group, heap) => group.reduceScatter(f32(heap, 4), repeated(heap, 2)),
  },
  {
    name: "allReduce",
    argument: "output",
    call: (group, heap) => group.allReduce(f32(heap, 4), repeated(heap, 4)),
  },
  {
    name: "allReduce in place",
    argument: "output",
    call: (group, heap) => {
      const both = repeated(heap, 4);
      group.allReduce(both, both);
    },
  },
  {
    name: "allToAll",
    argument: "outputs",
    call: (group, heap) => group.allToAll([f32(heap, 2), f32(heap, 2)], [f32(heap, 2), repeated(heap, 2)]),
  },
  {
    name: "broadcast from a peer",
    argument: "tensor",
    call: (group, heap) => group.broadcast(repeated(heap, 4), 1),
  },
  {
    name: "sendRecv",
    argument: "receive",
    call: (group, heap) => group.sendRecv(f32(heap, 4), 1, repeated(heap, 4), 1),
  },
];

const BAD_CALLS: readonly BadCall[] = [
  ...WRITTEN_TWICE.map((bad) => ({ ...bad, name: `${bad.name}: elements written at one place` })),
  {
    name: "allGather: input of another chunk size",
    argument: "input",
    call: (group, heap) => group.allGather(f32(heap, 3), f32(heap, 4)),
  },
  {
    name: "allGather: input of another rank",
    argument: "input",
    call: (group, heap) => group.allGather(f32(heap, 2, 1), f32(heap, 4)),
  },
  {
    name: "allGather: another dtype",
    argument: "input",
    call: (group, heap) => group.allGather(Tensor.zeros(heap, "f16", [2]), f32(heap, 4)),
  },
  {
    name: "allGather: no such dimension",
    argument: "dim",
    call: (group, heap) => group.allGather(f32(heap, 2), f32(heap, 4), { dim: 1 }),
  },
  {
    name: "allReduce: quantised elements, which have no sums",
    argument: "input",
    call: (group, heap) => group.allReduce(Tensor.zeros(heap, "f8e4m3", [4]), Tensor.zeros(heap, "f8e4m3", [4])),
  },
  {
    name: "reduceScatter: quantised elements",
    argument: "input",
    call: (group, heap) => group.reduceScatter(Tensor.zeros(heap, "i8", [4]), Tensor.zeros(heap, "i8", [2])),
  },
  {
    name: "allGather: a scalar",
    argument: "dim",
    call: (group, heap) => group.allGather(f32(heap), f32(heap)),
  },
  {
    name: "allGather: input overlaps output elsewhere than at its chunk",
    argument: "output",
    call: (group, heap) => {
      const output = f32(heap, 4);
      group.allGather(output.slice(0, 1, 3), output);
    },
  },
  {
    name: "allGather: a tensor of another memory",
    argument: "input",
    call: (group, heap) => group.allGather(f32(SharedHeap.create(4096), 2), f32(heap, 4)),
  },
  {
    name: "allGatherCoalesced: more outputs than inputs",
    argument: "outputs",
    call: (group, heap) => group.allGatherCoalesced([f32(heap, 2)], [f32(heap, 4), f32(heap, 4)]),
  },
  {
    name: "allGatherCoalesced: nothing to gather",
    argument: "outputs",
    call: (group) => group.allGatherCoalesced([], []),
  },
  {
    name: "allGatherCoalesced: one input of another chunk size",
    argument: "inputs[1]",
    call: (group, heap) => group.allGatherCoalesced([f32(heap, 2), f32(heap, 3)], [f32(heap, 4), f32(heap, 4)]),
  },
  {
    name: "allGatherCoalesced: an output overlaps another",
    argument: "outputs[0]",
    call: (group, heap) => {
      const output = f32(heap, 4);
      group.allGatherCoalesced([f32(heap, 2), f32(heap, 2)], [output, output]);
    },
  },
  {
    name: "allGather: nine dimensions",
    argument: "input",
    call: (group, heap) => {
      const nine = [1, 1, 1, 1, 1, 1, 1, 1, 2];
      group.allGather(f32(heap, ...nine), f32(heap, ...nine), { dim: 8 });
    },
  },
  {
    name: "allGather: a deadline of 0",
    argument: "deadlineMs",
    call: (group, heap) => group.allGather(f32(heap, 2), f32(heap, 4), { deadlineMs: 0 }),
  },
  {
    name: "reduceScatter: output of the whole shape",
    argument: "output",
    call: (group, heap) => group.reduceScatter(f32(heap, 4), f32(heap, 4)),
  },
  {
    name: "reduceScatter: output overlaps input elsewhere than at its chunk",
    argument: "output",
    call: (group, heap) => {
      const input = f32(heap, 4);
      group.reduceScatter(input, input.slice(0, 1, 3));
    },
  },
  {
    name: "reduceScatter: an unknown reduction",
    argument: "op",
    call: (group, heap) => {
      const op: string = "mean";
      group.reduceScatter(f32(heap, 4), f32(heap, 2), { op: op as Reduction });
    },
  },
  {
    name: "allReduce: an unknown way to be deterministic",
    argument: "deterministic",
    call: (group, heap) => {
      const deterministic: string = "sorted";
      group.allReduce(f32(heap, 4), f32(heap, 4), { deterministic: deterministic as Determinism });
    },
  },
  {
    name: "allReduce: another shape",
    argument: "output",
    call: (group, heap) => group.allReduce(f32(heap, 2, 3), f32(heap, 3, 2)),
  },
  {
    name: "allReduce: another dtype",
    argument: "output",
    call: (group, heap) => group.allReduce(f32(heap, 2), Tensor.zeros(heap, "i32", [2])),
  },
  {
    name: "allReduce: a shifted overlap",
    argument: "output",
    call: (group, heap) => {
      const room = f32(heap, 10);
      group.allReduce(room.slice(0, 0, 8), room.slice(0, 1, 9));
    },
  },
  {
    name: "allReduce: the same bytes transposed",
    argument: "output",
    call: (group, heap) => {
      const square = f32(heap, 4, 4);
      group.allReduce(square, square.transpose(0, 1));
    },
  },
  {
    name: "broadcast: a root outside the group",
    argument: "root",
    call: (group, heap) => group.broadcast(f32(heap, 2), 2),
  },
  {
    name: "broadcast: a negative root",
    argument: "root",
    call: (group, heap) => group.broadcast(f32(heap, 2), -1),
  },
  {
    name: "allToAll: too few inputs",
    argument: "inputs",
    call: (group, heap) => group.allToAll([f32(heap, 2)], [f32(heap, 2), f32(heap, 2)]),
  },
  {
    name: "allToAll: too many outputs",
    argument: "outputs",
    call: (group, heap) => group.allToAll([f32(heap, 2), f32(heap, 2)], [f32(heap, 2), f32(heap, 2), f32(heap, 2)]),
  },
  {
    name: "allToAll: an output is an input",
    argument: "outputs[1]",
    call: (group, heap) => {
      const both = f32(heap, 2);
      group.allToAll([f32(heap, 2), both], [f32(heap, 2), both]);
    },
  },
  {
    name: "allToAll: outputs overlap each other",
    argument: "outputs[1]",
    call: (group, heap) => {
      const room = f32(heap, 3);
      group.allToAll([f32(heap, 2), f32(heap, 2)], [room.slice(0, 0, 2), room.slice(0, 1, 3)]);
    },
  },
  {
    name: "readPeers: more tensors than a slot describes",
    argument: "own",
    call: (group, heap) => {
      const tensor = f32(heap, 1);
      group.readPeers(Array<Tensor>(1000).fill(tensor), () => undefined);
    },
  },
];

export const BAD_CALL_NAMES = BAD_CALLS.map(({ name }) => name);

export function setup({ heap, rank, world }: RankContext) {
  return {
    /** What rank 0 got, then a collective that works only when nothing was published. */
    refuse(index: number): { error: string; argument: string; expected: string } {
      const bad = BAD_CALLS[index];
      let outcome = { error: "none", argument: "", expected: bad?.argument ?? "" };
      if (rank === 0) {
        try {
          bad?.call(world, heap);
        } catch (error) {
          outcome = {
            ...outcome,
            error: error instanceof Error ? error.name : String(error),
            argument: error instanceof ArgumentError ? error.argument : "",
          };
        }
      }
      const ones = Tensor.empty(heap, "i32", [5]).fill(1);
      world.allReduce(ones, ones);
      if (!ones.i32.every((value) => value === 2)) throw new Error("the group is out of step");
      return outcome;
    },
  };
}
