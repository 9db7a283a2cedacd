import { LockstepError, registerErrorClass } from "@lockstep/tensor";

/**
 * A context did not move to another layout, because a rank could not, or because what ranks brought does not go
 * together. The old context is whole and goes on on every rank that had it; nothing of a new one is left.
 */
export class RedistributeFailed extends LockstepError {
  static {
    registerErrorClass("RedistributeFailed", RedistributeFailed);
  }

  readonly _tag = "RedistributeFailed";
  /** Places in the group of the ranks that failed; empty when the ranks do not go together. */
  readonly ranks: readonly number[];

  constructor(ranks: readonly number[], reason: string) {
    const who = ranks.length === 0 ? "" : ` on rank ${ranks.join(", ")} of the group`;
    super(`DcpAttention.redistribute: the context did not move${who}: ${reason}. It goes on as it was.`);
    this.ranks = ranks;
  }
}
