import { LockstepError, registerErrorClass } from "@lockstep/tensor";

/**
 * A context has moved, and all ranks have voted for it, but the last exchange failed: this rank does not know whether
 * others have taken the new context already. It has both, whole. Once it is known whether the call returned on any rank,
 * `DcpAttention.settle` keeps the new one, or else the old one.
 */
export class RedistributeUnsettled extends LockstepError {
  static {
    registerErrorClass("RedistributeUnsettled", RedistributeUnsettled);
  }

  readonly _tag = "RedistributeUnsettled";

  constructor(cause: Error) {
    super(
      `DcpAttention.redistribute: the context has moved, but not all ranks may know it: ${cause.message} ` +
        "Call DcpAttention.settle, for the new one if the call returned on any rank, else for the old one.",
      { cause },
    );
  }
}
