// The rank's side of the tests of sampling over ranks.
import type { RankContext } from "@lockstep/dist-groups";
import { LockstepError, Tensor } from "@lockstep/tensor";
import { Layers } from "../src/layers/layers.ts";
import type { ChosenToken, RowRequest } from "../src/sampling/row-request.ts";
import { Sampler } from "../src/sampling/sampler.ts";
import { samplerExchangeBytes } from "../src/sampling/sampler-memory.ts";

/** A step's rows of logits over the whole vocabulary, and what is asked of them. */
export interface SampledStep {
  readonly logits: readonly (readonly number[])[];
  readonly requests: readonly RowRequest[];
}

/** What a step chose, or the error's tag; and collectives that it took. */
export interface SampledTokens {
  readonly tokens: readonly ChosenToken[];
  readonly control: number;
  readonly tag: string;
  readonly message: string;
  readonly collectives: number;
}

/** How a vocabulary is split: rank r has the tokens from starts[r] up to starts[r + 1]. */
export type Starts = readonly number[];

/** Called by the world on every rank. */
export function setup({ heap, world, rank }: RankContext) {
  const layers = Layers.open(heap);
  const samplers = new Map<string, Sampler>();

  function samplerOf(starts: Starts, maxRows: number, maxWholeRows: number): Sampler {
    const name = `${starts} ${maxRows} ${maxWholeRows}`;
    const known = samplers.get(name);
    if (known !== undefined) return known;
    const vocabulary = { start: starts[rank] ?? 0, end: starts[rank + 1] ?? 0 };
    const vocabularySize = starts.at(-1) ?? 0;
    const made = new Sampler({ layers, world, heap, vocabulary, vocabularySize, maxRows, maxWholeRows });
    samplers.set(name, made);
    return made;
  }

  return {
    /** Chooses the tokens of steps. Each rank brings the word 10 * rank + the step's number. */
    choose(starts: Starts, steps: readonly SampledStep[], maxRows: number, maxWholeRows: number): SampledTokens[] {
      const sampler = samplerOf(starts, maxRows, maxWholeRows);
      const [start = 0, end = 0] = [starts[rank], starts[rank + 1]];
      return steps.map(({ logits, requests }, step) => {
        const own = Tensor.empty(heap, "f32", [logits.length, end - start]);
        const values = own.f32;
        for (const [row, all] of logits.entries()) values.set(all.slice(start, end), row * (end - start));
        const before = world.counters.ops;
        const none = { tokens: [], control: -1, tag: "", message: "" };
        const taken = (): number => world.counters.ops - before;
        try {
          return { ...none, ...sampler.choose(own, requests, 10 * rank + step), collectives: taken() };
        } catch (error) {
          if (!(error instanceof LockstepError)) throw error;
          return { ...none, tag: error._tag, message: error.message, collectives: taken() };
        } finally {
          own.free();
        }
      });
    },

    /** Bytes of the heap that a sampler takes, and those that were foretold. */
    memory(starts: Starts, maxRows: number, maxWholeRows: number): readonly [number, number] {
      const before = heap.usedBytes;
      samplerOf(starts, maxRows, maxWholeRows);
      const vocabularySize = starts.at(-1) ?? 0;
      const ownVocabulary = (starts[rank + 1] ?? 0) - (starts[rank] ?? 0);
      const sizes = { world: world.size, vocabularySize, ownVocabulary, maxRows, maxWholeRows };
      return [heap.usedBytes - before, samplerExchangeBytes(sizes)];
    },
  };
}
