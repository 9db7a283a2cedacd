import { type DcpAttention, globalPosition, localLength } from "@lockstep/attention";
import type { GroupCounters, ProcessGroup } from "@lockstep/dist-groups";
import { type SharedHeap, Tensor } from "@lockstep/tensor";
import type { StepAttention } from "../model/step-attention.ts";
import type { Range } from "../model/tensor-parallel.ts";

/** What one text did in a traced step, as one rank sees it. */
export interface TextTrace {
  readonly text: number;
  /** Tokens of the text that are stored after the step's were added, over all ranks. */
  readonly length: number;
  /** Positions of the step's tokens. */
  readonly positions: readonly number[];
  /** Positions that this rank holds, as runs. */
  readonly held: readonly Range[];
}

/** Collectives and the bytes that they brought from peers. */
export interface Exchanged {
  /** Collectives that were made. */
  readonly collectives: number;
  /** Bytes that came from peers. */
  readonly bytesReceived: number;
}

/** What one rank did in one step. Plain data. */
export interface StepTrace {
  readonly rank: number;
  /** From 1, over all steps since the texts began, prompts included. */
  readonly step: number;
  readonly isPrefill: boolean;
  readonly texts: readonly TextTrace[];
  /** Query heads that this rank attends for, and those it keeps. */
  readonly groupHeads: Range;
  readonly ownHeads: Range;
  /**
   * For each layer the LSE of this rank's partial attention [tokens, group heads], natural; empty where keys and values
   * were brought to the rank instead.
   */
  readonly partialLse: readonly Float32Array[];
  /** For each layer the LSE over the whole context [tokens, own heads], natural. */
  readonly lse: readonly Float32Array[];
  /** In attention: query gather and combine, or gathered keys and values. */
  readonly attention: Exchanged;
  /** In tensor parallelism: sums of layer outputs, the choice of the tokens. */
  readonly tensorParallel: Exchanged;
  readonly combine: string;
}

/** What a trace is taken of, besides the attention itself. */
export interface TraceParts {
  readonly attention: DcpAttention;
  readonly dcpGroup: ProcessGroup;
  readonly world: ProcessGroup;
  readonly heap: SharedHeap;
  readonly rank: number;
  readonly groupHeads: Range;
  readonly ownHeads: Range;
}

/** Takes down what a rank does in one step. */
export class StepTracer {
  readonly #parts: TraceParts;
  readonly #partialLse: Float32Array[] = [];
  readonly #lse: Float32Array[] = [];
  readonly #before: { readonly attention: GroupCounters; readonly world: GroupCounters };

  constructor(parts: TraceParts) {
    this.#parts = parts;
    this.#before = { attention: { ...parts.dcpGroup.counters }, world: { ...parts.world.counters } };
  }

  /** Takes a partial LSE: what DcpAttention tells its `onPartialLse`. */
  takePartialLse(layer: number, lse: Tensor): void {
    this.#partialLse[layer] = Float32Array.from(lse.toNumbers());
  }

  /** A step that gathers queries, whose LSEs are taken down. */
  observe(attention: DcpAttention, step: StepAttention): StepAttention {
    return {
      begin: (items) => step.begin(items),
      forward: async (layer, query, key, value, out) => {
        const lse = Tensor.empty(this.#parts.heap, "f32", query.shape.slice(0, 2));
        try {
          await attention.forward(layer, query, key, value, out, lse);
          this.#lse[layer] = Float32Array.from(lse.f32);
        } finally {
          lse.free();
        }
      },
      end: () => step.end(),
      cancel: () => step.cancel(),
    };
  }

  /** The trace, once the step and the choice of its tokens are done. */
  finish(
    step: number,
    isPrefill: boolean,
    items: readonly { readonly text: number; readonly sequence: number; readonly tokens: number }[],
  ): StepTrace {
    const { attention, dcpGroup, world, rank, groupHeads, ownHeads } = this.#parts;
    const texts = items.map(({ text, sequence, tokens }) => {
      const length = attention.sequenceLength(sequence);
      const first = length - tokens;
      const positions = Array.from({ length: tokens }, (_, index) => first + index);
      return { text, length, positions, held: heldRuns(attention, length) };
    });
    return {
      rank,
      step,
      isPrefill,
      texts,
      groupHeads,
      ownHeads,
      partialLse: this.#partialLse,
      lse: this.#lse,
      attention: since(this.#before.attention, dcpGroup.counters),
      tensorParallel: since(this.#before.world, world.counters),
      combine: attention.metrics.combine,
    };
  }
}

function since(before: GroupCounters, now: GroupCounters): Exchanged {
  return { collectives: now.ops - before.ops, bytesReceived: now.bytesReceived - before.bytesReceived };
}

/** Positions of a text of `length` tokens that this rank holds, as runs [start, end). */
function heldRuns({ shard }: DcpAttention, length: number): Range[] {
  const runs: { start: number; end: number }[] = [];
  for (let local = 0; local < localLength(shard, length); local++) {
    const position = globalPosition(shard, local);
    const last = runs.at(-1);
    if (last?.end === position) last.end++;
    else runs.push({ start: position, end: position + 1 });
  }
  return runs;
}
