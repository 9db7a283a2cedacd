import { Tensor, type TensorDescriptor } from "@lockstep/tensor";
import type { ProcessGroup, RankContext } from "../src/index.ts";

/** Words of the host's tensor that ranks and host signal each other with. */
export const ARRIVED = 0;
export const GATE = 1;
export const BEGUN = 2;

/** A program with state, whose calls can be held. One call at a time. */
export function setup(context: RankContext) {
  const { heap, rank, size } = context;
  // What an abort must not lose: a cache of a kind.
  const cache = Tensor.zeros(heap, "f32", [64]);
  let steps = 0;
  let inside = 0;
  let mostInside = 0;
  let kept: ProcessGroup | undefined;

  const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1));
  const wordsOf = (signals: TensorDescriptor): Int32Array => Tensor.fromDescriptor(signals, heap).i32;

  function step(): number {
    const term = Tensor.from(heap, "f32", [1], [rank + 1]);
    context.world.allReduce(term, term);
    const sum = term.f32[0] ?? 0;
    term.free();
    cache.f32[steps % 64] = sum;
    return ++steps;
  }

  return {
    /** A collective with awaits around it; how many calls were inside at once. */
    async slowStep(): Promise<{ steps: number; mostInside: number }> {
      mostInside = Math.max(mostInside, ++inside);
      await turn();
      const done = step();
      await turn();
      inside--;
      return { steps: done, mostInside };
    },
    step,
    steps: () => steps,
    /** Arrives, then waits without blocking until the gate is open or the group of all ranks is aborted. */
    async hold(signals: TensorDescriptor): Promise<void> {
      const words = wordsOf(signals);
      Atomics.add(words, ARRIVED, 1);
      while (Atomics.load(words, GATE) === 0) await turn();
    },
    /** The same, blocking: this rank sees no message meanwhile. */
    block(signals: TensorDescriptor): void {
      const words = wordsOf(signals);
      Atomics.add(words, ARRIVED, 1);
      while (Atomics.load(words, GATE) === 0) Atomics.wait(words, GATE, 0, 20);
    },
    begin(signals: TensorDescriptor): void {
      Atomics.add(wordsOf(signals), BEGUN, 1);
    },
    /** Everybody waits in a collective for the last rank, which comes when the group is aborted or the gate is open. */
    async stall(signals: TensorDescriptor): Promise<void> {
      const words = wordsOf(signals);
      kept = context.world;
      Atomics.add(words, ARRIVED, 1);
      if (rank === size - 1) while (Atomics.load(words, GATE) === 0 && !context.world.isAborted) await turn();
      step();
    },
    meet: () => context.world.barrier(),
    meetWithout: (who: number, deadlineMs: number) => {
      if (rank !== who) context.world.barrier({ deadlineMs });
    },
    /** What is left after an abort. */
    state: () => ({
      steps,
      cache: [...cache.f32.subarray(0, Math.min(steps, 64))],
      keptAborted: kept?.isAborted,
      aborted: context.world.isAborted,
    }),
    useKept: () => kept?.barrier(),
    throwOn: (who: number) => {
      if (rank === who) throw new TypeError("boom");
      context.world.barrier();
    },
    group: (name: string): readonly number[] => {
      context.group(name).barrier();
      return context.group(name).ranks;
    },
  };
}
