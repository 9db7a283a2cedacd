import { type DType, Tensor } from "@lockstep/tensor";
import { chunkStart, type RankContext } from "../src/index.ts";
import { randomWords, roundTo } from "./collective-cases.ts";

/** A sum of matrices that a world with at least as many ranks as addends is asked for. */
export interface SumCase {
  readonly dtype: DType;
  readonly rows: number;
  readonly columns: number;
  readonly addends: number;
  readonly dim: number;
  readonly seed: number;
}

/** Addends whose sizes are far apart, with zeros of both signs and numbers that are not finite. */
function addendOf({ dtype, rows, columns, seed }: SumCase, which: number): number[] {
  const next = randomWords(97 * seed + which);
  const special = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0];
  return Array.from({ length: rows * columns }, () => {
    const word = next();
    const sign = next() % 2 === 0 ? 1 : -1;
    if (word % 41 === 0) return special[next() % 4] ?? 0;
    return roundTo(dtype, sign * (1 + next() / 2 ** 32) * 2 ** ((word % 30) - 20));
  });
}

/** A rank for each addend, no two on one. */
function ranksOf(addends: number, size: number, seed: number): number[] {
  const next = randomWords(seed);
  const ranks = Array.from({ length: size }, (_, rank) => rank);
  for (let at = size - 1; at > 0; at--) ranks.push(...ranks.splice(next() % (at + 1), 1));
  return ranks.slice(0, addends);
}

function bitsOf(tensor: Tensor): number[] {
  const { elements } = tensor;
  return Array.from(elements instanceof Float32Array ? new Uint32Array(elements.slice().buffer) : elements);
}

export function setup({ heap, rank, size, world }: RankContext) {
  return {
    /**
     * The bits of every sum, of which ranks that `turn` chooses bring the addends and all others zeros, by all-reduce;
     * a reduce-scatter must give its chunk of the same bits.
     */
    async sums(cases: readonly SumCase[], turn: number, isAsync: boolean): Promise<number[][]> {
      const results: number[][] = [];
      for (const sumCase of cases) {
        const { dtype, rows, columns, addends, dim, seed } = sumCase;
        const which = ranksOf(addends, size, seed + 1000 * turn + 1).indexOf(rank);
        const zeros = (): number[] => Array.from({ length: rows * columns }, (_, at) => (at % 2 === 0 ? 0 : -0));
        const mine = Tensor.from(heap, dtype, [rows, columns], which === -1 ? zeros() : addendOf(sumCase, which));
        const sum = Tensor.zeros(heap, dtype, [rows, columns]);
        const length = dim === 0 ? rows : columns;
        const start = chunkStart(length, rank, size);
        const end = chunkStart(length, rank + 1, size);
        const chunk = Tensor.zeros(heap, dtype, dim === 0 ? [end - start, columns] : [rows, end - start]);
        const deterministic = "world-invariant";
        if (isAsync) {
          await world.async.allReduce(mine, sum, { deterministic });
          await world.async.reduceScatter(mine, chunk, { dim, deterministic });
        } else {
          world.allReduce(mine, sum, { deterministic });
          world.reduceScatter(mine, chunk, { dim, deterministic });
        }
        const expected = sum.slice(dim, start, end).clone(heap);
        if (bitsOf(chunk).join() !== bitsOf(expected).join()) {
          throw new Error(`reduceScatter of ${dtype} [${rows}, ${columns}] along ${dim} has other bits than allReduce`);
        }
        results.push(bitsOf(sum));
        for (const tensor of [mine, sum, chunk, expected]) tensor.free();
      }
      return results;
    },
  };
}
