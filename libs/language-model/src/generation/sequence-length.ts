import type { DcpAttention } from "@lockstep/attention";

/** What of an attention has sequences of some length. */
type Sequences = Pick<DcpAttention, "sequenceLength" | "truncateSequence" | "beginStep" | "endStep">;

/** Lets a sequence have so many tokens, whatever the keys and values of those that it lacks are. All ranks together. */
export function setSequenceLength(attention: Sequences, sequence: number, length: number): void {
  const before = attention.sequenceLength(sequence);
  if (before > length) attention.truncateSequence(sequence, length);
  if (before >= length) return;
  attention.beginStep([{ sequence, tokens: length - before, queries: 1 }]);
  attention.endStep();
}
