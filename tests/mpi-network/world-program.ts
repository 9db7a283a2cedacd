// What ranks of the network's tests run: collectives over the network, checked, and one that may not come through.
import { Tensor } from "@lockstep/tensor";
import { CollectiveTimeout, type RankContext } from "@lockstep/dist-groups";

/** How a rank came out of its rounds. */
interface Ending {
  readonly rank: number;
  readonly error: string;
  readonly missing: readonly number[];
}

export function setup(context: RankContext) {
  const { heap, rank, size } = context;

  /** The value that rank `from` sends as element `index` in round `round`. */
  const sent = (from: number, index: number, round: number): number => (from * 7_919 + index * 31 + round) | 0;

  function exchange(elements: number, round: number): void {
    const input = Tensor.empty(heap, "i32", [elements]);
    const output = Tensor.empty(heap, "i32", [elements * size]);
    const ownElements = new Int32Array(heap.buffer, input.byteOffset, elements);
    const allElements = new Int32Array(heap.buffer, output.byteOffset, elements * size);
    for (let index = 0; index < elements; index++) ownElements[index] = sent(rank, index, round);
    try {
      context.world.allGather(input, output);
      for (let from = 0; from < size; from++) {
        for (let index = 0; index < elements; index++) {
          if (allElements[from * elements + index] === sent(from, index, round)) continue;
          throw new Error(`element ${index} of rank ${from} is wrong in round ${round}`);
        }
      }
    } finally {
      input.free();
      output.free();
    }
  }

  return {
    /** Gathers `elements` of every rank, so often, and checks every one. Returns the milliseconds of a round. */
    rounds(elements: number, rounds: number): number {
      const begin = performance.now();
      for (let round = 0; round < rounds; round++) exchange(elements, round);
      return (performance.now() - begin) / rounds;
    },

    /** Goes on until a collective does not come through, and tells on standard output how it ended. */
    untilCut(elements: number): void {
      try {
        for (let round = 0; ; round++) exchange(elements, round);
      } catch (error) {
        const missing = error instanceof CollectiveTimeout ? error.missing : [];
        const ending: Ending = { rank, error: error instanceof Error ? error.name : "", missing };
        console.log(`ended ${JSON.stringify(ending)}`);
        throw error;
      }
    },
  };
}
