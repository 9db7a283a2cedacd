import type { Combine } from "./combine/combine.ts";
import type { CombineChoiceMetrics } from "./combine/combine-choice.ts";
import type { OverlapChoiceMetrics } from "./decode/overlapped-halves.ts";
import type { AttentionGroups } from "./options/resolved-options.ts";

/** What a DcpAttention has done and holds. */
export interface DcpAttentionMetrics {
  /** Milliseconds in all query gathers. */
  readonly gatherMs: number;
  /** Milliseconds in writing keys and values, in attending and in prefill. */
  readonly attentionMs: number;
  /** Milliseconds in all combines. */
  readonly combineMs: number;
  /** Steps that have ended with `endStep`. */
  readonly steps: number;
  /** Tokens whose keys and values this rank stores, over all sequences; one that is shared counts for each. */
  readonly tokensHeld: number;
  /** Bytes of the KV cache blocks in use on this rank, over all layers; shared ones count once. */
  readonly bytesHeld: number;
  /** Bytes this rank received from its peers in the query, DCP and PCP groups' collectives since `open`. */
  readonly bytesReceived: number;
  /** The combine of the last step. */
  readonly combine: Combine;
  /** What `auto` has measured and chosen, for each size of step. */
  readonly combineChoices: readonly CombineChoiceMetrics[];
  /** Layers' attentions in decode steps that were cut in two halves: see the option `overlap`. */
  readonly overlapped: number;
  /** What `overlap: "auto"` has measured and chosen, for each size of step that it tries. */
  readonly overlapChoices: readonly OverlapChoiceMetrics[];
}

/** Counts the bytes that a DcpAttention receives, by groups that serve others too and may be replaced. */
export class ReceivedBytes {
  #groups: AttentionGroups;
  /** What the groups had received when they came, less what the groups before them received for this count. */
  #before: number;

  constructor(groups: AttentionGroups) {
    this.#groups = groups;
    this.#before = receivedBy(groups);
  }

  get total(): number {
    return receivedBy(this.#groups) - this.#before;
  }

  /** Goes on counting by other groups. */
  moveTo(groups: AttentionGroups): void {
    const { total } = this;
    this.#groups = groups;
    this.#before = receivedBy(groups) - total;
  }
}

function receivedBy({ all }: AttentionGroups): number {
  let sum = 0;
  for (const group of all) sum += group.counters.bytesReceived;
  return sum;
}
