import { Tensor, type TensorDescriptor } from "@lockstep/tensor";
import type { RankContext } from "../src/index.ts";

interface Options {
  readonly scale: number;
  readonly gather?: boolean;
  /** A tensor of the host's. */
  readonly shown?: TensorDescriptor;
}

/** Exercises what a program can do with its world. */
export function setup(context: RankContext, options: Options) {
  const { heap, rank, size, world } = context;
  const own = Tensor.from(heap, "i32", [1], [rank]);
  // Collectives work in setup already.
  const everyone = Tensor.zeros(heap, "i32", [size]);
  if (options.gather === true) world.allGather(own, everyone);

  return {
    rank: () => rank * options.scale,
    later: async (value: string) => {
      await new Promise((resolve) => setTimeout(resolve, rank));
      return { rank, value };
    },
    everyone: () => [...everyone.i32],
    groups: (names: readonly string[]) =>
      names.map((name) => {
        const group = context.group(name);
        return { rank: group.rank, size: group.size, ranks: group.ranks, name: group.name };
      }),
    /** The numbers of a tensor in the host's heap or a peer's. */
    read: (descriptor: TensorDescriptor) => [...Tensor.fromDescriptor(descriptor, heap).toNumbers()],
    shown: () => (options.shown === undefined ? [] : [...Tensor.fromDescriptor(options.shown, heap).toNumbers()]),
    publish: (value: number) => Tensor.empty(heap, "f32", [3]).fill(value).descriptor,
    hostProcess: () => context.hostProcess,
    sharesMemory: () => world.sharesMemory,
    heapRange: () => ({ start: heap.start, bytes: heap.totalBytes }),
    sum(values: readonly number[]): number[] {
      const tensor = Tensor.from(heap, "f32", [values.length], values);
      world.allReduce(tensor, tensor);
      const result = [...tensor.f32];
      tensor.free();
      return result;
    },
    counters: () => ({ ...world.counters }),
    constant: 5,
  };
}
