import { Tensor } from "@lockstep/tensor";
import type { ProcessGroup, RankContext } from "../src/index.ts";

/** Keeps its end of a group, and uses it when it is closed. */
export function setup(context: RankContext) {
  const { heap, rank, group } = context;
  let kept: ProcessGroup | undefined;
  const word = Tensor.zeros(heap, "i32", [1]);

  /** Every collective of a group of one rank, blocking and asynchronous. */
  function collectives(of: ProcessGroup): [string, () => unknown][] {
    const [one, other] = [Tensor.zeros(heap, "f32", [1]), Tensor.zeros(heap, "f32", [1])];
    const all = (form: ProcessGroup | ProcessGroup["async"], name: string): [string, () => unknown][] => [
      [`${name}allGather`, () => form.allGather(one, other)],
      [`${name}allGatherCoalesced`, () => form.allGatherCoalesced([one], [other])],
      [`${name}reduceScatter`, () => form.reduceScatter(one, other)],
      [`${name}allReduce`, () => form.allReduce(one, other)],
      [`${name}allToAll`, () => form.allToAll([one], [other])],
      [`${name}broadcast`, () => form.broadcast(one, 0)],
      [`${name}sendRecv`, () => form.sendRecv(one, 0, other, 0)],
      [`${name}barrier`, () => form.barrier()],
      [`${name}readPeers`, () => form.readPeers([one], () => 0)],
      [`${name}agree`, () => form.agree("here", { x: 1 })],
    ];
    return [...all(of, ""), ...all(of.async, "async ")];
  }

  return {
    keep(name: string): void {
      kept = group(name);
    },
    isAborted: () => kept?.isAborted,
    barrier: (name: string) => group(name).barrier(),
    barrierOfKept: () => kept?.barrier(),
    /** What every collective of the kept group comes to: the name of an error, or "none". */
    async use(): Promise<[string, string][]> {
      const outcomes: [string, string][] = [];
      for (const [name, run] of kept === undefined ? [] : collectives(kept)) {
        let error = "none";
        try {
          await run();
        } catch (thrown) {
          error = thrown instanceof Error ? thrown.name : String(thrown);
        }
        outcomes.push([name, error]);
      }
      return outcomes;
    },
    /** The first rank waits in a collective of the group for ever. */
    stall(name: string): void {
      if (rank === 0) group(name).barrier();
    },
    /** Computes until the word of a tensor of the host is set; sees no message meanwhile. */
    block(gate: Parameters<typeof Tensor.fromDescriptor>[0]): void {
      const words = Tensor.fromDescriptor(gate, heap).i32;
      while (Atomics.load(words, 0) === 0) Atomics.wait(words, 0, 0, 20);
    },
    work(): number {
      context.world.allReduce(word.fill(1), word);
      return word.i32[0] ?? 0;
    },
  };
}
