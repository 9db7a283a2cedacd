import type { Range } from "../model/tensor-parallel.ts";
import type { Exchanged, StepTrace } from "./step-trace.ts";

/** How one query token's attention was made up. */
export interface ExplainedQuery {
  /** Number of the text, from 0, and position of the token in it. */
  readonly text: number;
  /** Position of the token in its text, from 0. */
  readonly position: number;
  /**
   * shares[layer][head][i]: the share of the i-th rank of the head's DCP group in the result, exp(partial LSE - LSE);
   * they sum to 1. Heads of the whole model.
   */
  readonly shares: readonly (readonly (readonly number[])[])[];
}

/** One step, over all ranks. Plain data. */
export interface Explanation {
  /** From 1, prompts included. */
  readonly step: number;
  /** `prefill`: a part of a prompt, in a step of its own; `decode`: all other steps. */
  readonly kind: "decode" | "prefill";
  /** The combine that the step used. */
  readonly combine: string;
  /** What each rank held, computed and exchanged. */
  readonly ranks: readonly {
    readonly rank: number;
    /** Ranks that share its KV cache, in the order of the shares. */
    readonly dcpGroup: readonly number[];
    /** Query heads [start, end) it attends for, and whose results it keeps. */
    readonly groupHeads: Range;
    readonly ownHeads: Range;
    /** For each text of the step: how many tokens it stores, and the positions as runs [start, end). */
    readonly texts: readonly {
      readonly text: number;
      readonly length: number;
      readonly held: number;
      readonly runs: readonly Range[];
    }[];
    readonly attention: Exchanged;
    readonly tensorParallel: Exchanged;
  }[];
  /**
   * The step's tokens. Empty for a prefill on GPUs: there each rank attends for its own heads over keys and values
   * gathered from all ranks.
   */
  readonly queries: readonly ExplainedQuery[];
}

/** Puts the ranks' traces of one step together. `dcp` ranks in a row share a KV cache. */
export function explainStep(traces: readonly StepTrace[], dcp: number): Explanation {
  const [first] = traces;
  if (first === undefined) throw new Error("no traces to explain");
  const tokens = first.texts.flatMap(({ text, positions }) => positions.map((position) => ({ text, position })));
  return {
    step: first.step,
    kind: first.isPrefill ? "prefill" : "decode",
    combine: first.combine,
    ranks: traces.map(({ rank, groupHeads, ownHeads, texts, attention, tensorParallel }) => ({
      rank,
      dcpGroup: Array.from({ length: dcp }, (_, index) => Math.floor(rank / dcp) * dcp + index),
      groupHeads,
      ownHeads,
      texts: texts.map(({ text, length, held }) => ({
        text,
        length,
        held: held.reduce((sum, { start, end }) => sum + end - start, 0),
        runs: held,
      })),
      attention,
      tensorParallel,
    })),
    queries:
      first.partialLse.length === 0
        ? []
        : tokens.map((token, row) => ({
            ...token,
            shares: first.partialLse.map((_, layer) => layerShares(traces, dcp, layer, row)),
          })),
  };
}

/** For each head of the model the shares of the ranks of its DCP group. */
function layerShares(traces: readonly StepTrace[], dcp: number, layer: number, row: number): number[][] {
  return traces.flatMap(({ rank, ownHeads, groupHeads, lse }) => {
    const start = Math.floor(rank / dcp) * dcp;
    const group = traces.slice(start, start + dcp);
    const own = ownHeads.end - ownHeads.start;
    const all = groupHeads.end - groupHeads.start;
    return Array.from({ length: own }, (_, head) => {
      const whole = lse[layer]?.[row * own + head] ?? Number.NaN;
      const at = row * all + ownHeads.start - groupHeads.start + head;
      return group.map(({ partialLse }) => Math.exp((partialLse[layer]?.[at] ?? Number.NaN) - whole));
    });
  });
}
