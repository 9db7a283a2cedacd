import type { OpCall } from "./op-call.ts";
import type { EncodedCall } from "./op-message.ts";

/** An op that a rank called. */
export interface OpOfRank {
  readonly rank: number;
  readonly call: OpCall;
}

/** Records calls on a device. */
export interface CallRecorder {
  /** Records a rank's call; one that could share a dispatch with others' it gives back instead. Throws nothing. */
  record(rank: number, call: EncodedCall): OpCall | undefined;
  /** Records ops of one name, of several ranks. Throws nothing. */
  recordTogether(ops: readonly OpOfRank[]): void;
}

/**
 * Records what ranks called between two fences: each rank's calls in its order. No rank's depend on another's there, so
 * that alike ops of several ranks come together.
 * @param calls of each rank
 */
export function recordRound(calls: readonly (readonly EncodedCall[])[], recorder: CallRecorder): void {
  const next = calls.map(() => 0);
  const waiting: (OpCall | undefined)[] = calls.map(() => undefined);
  for (;;) {
    for (const [rank, ofRank] of calls.entries()) {
      for (let at = next[rank] ?? 0; waiting[rank] === undefined && at < ofRank.length; at++) {
        const call = ofRank[at];
        next[rank] = at + 1;
        if (call !== undefined) waiting[rank] = recorder.record(rank, call);
      }
    }
    const name = waiting.find((call) => call !== undefined)?.[0];
    if (name === undefined) return;
    const ops: OpOfRank[] = [];
    for (const [rank, call] of waiting.entries()) {
      if (call?.[0] !== name) continue;
      ops.push({ rank, call });
      waiting[rank] = undefined;
    }
    recorder.recordTogether(ops);
  }
}
