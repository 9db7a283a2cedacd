import { type DcpAttention, StepOrderError } from "@lockstep/attention";
import { ResourceClosed, type Tensor } from "@lockstep/tensor";

/** What one sequence brings to a step. */
export interface StepTokens {
  readonly sequence: number;
  readonly ids: readonly number[];
  /** Of how many of its last tokens the logits are wanted. */
  readonly logits: number;
}

/** The attention of one step, as a transformer's layers call it: begin, forward for each layer in turn, end. */
export interface StepAttention {
  /** Makes room for the step's tokens; returns the position of each in its sequence. */
  begin(items: readonly StepTokens[]): ArrayLike<number>;
  /**
   * Stores the step's keys and values and attends.
   * @param query [T, this rank's query heads, D]
   * @param key [T, stored KV heads, D]; `value` alike
   * @param out where the attention goes, as query
   * @returns a promise where there is something to await
   */
  forward(layer: number, query: Tensor, key: Tensor, value: Tensor, out: Tensor): Promise<void> | undefined;
  end(): void;
  /** Abandons the step, if one has begun: its tokens are forgotten. */
  cancel(): void;
}

/** Decoding: gathers the step's queries, attends where the keys are, combines the partial outputs. */
export function decodeStep(attention: DcpAttention): StepAttention {
  return {
    begin: (items) =>
      attention.beginStep(items.map(({ sequence, ids }) => ({ sequence, tokens: ids.length }))).positions,
    forward: (layer, query, key, value, out) => attention.forwardNow(layer, query, key, value, out),
    end: () => attention.endStep(),
    cancel: () => cancelStep(attention),
  };
}

/**
 * Prefill: every rank attends for its own heads, over a context that is gathered chunk by chunk. Needs a prefillChunk.
 */
export function prefillStep(attention: DcpAttention): StepAttention {
  return {
    begin: (items) =>
      attention.beginPrefill(items.map(({ sequence, ids }) => ({ sequence, tokens: ids.length }))).positions,
    forward: (layer, query, key, value, out) => attention.prefill(layer, query, key, value, out),
    end: () => attention.endStep(),
    cancel: () => cancelStep(attention),
  };
}

function cancelStep(attention: DcpAttention): void {
  try {
    attention.cancelStep();
  } catch (error) {
    // No step had begun, or all is closed: there is nothing to abandon.
    if (!(error instanceof StepOrderError || error instanceof ResourceClosed)) throw error;
  }
}
