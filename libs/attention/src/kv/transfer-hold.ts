import { StepOrderError } from "../errors.ts";
import type { KvSequences } from "./kv-sequences.ts";
import type { GiveBlock, PendingPrefixes, PrefixBlock } from "./prefix-transfer.ts";

/** What moves blocks out of caches or into them, and keeps steps from beginning until it has ended. */
export type Transfer = "exportPrefixes" | "importPrefixes" | "redistribute" | "settle";

const FIRST: Readonly<Record<Transfer, string>> = {
  exportPrefixes: "wait for exportPrefixes",
  importPrefixes: "commit or cancel what importPrefixes put back",
  redistribute: "wait for redistribute",
  settle: "call DcpAttention.settle",
};

/** Whether blocks are on their way. */
export class TransferHold {
  #held: Transfer | undefined;

  /** Nothing else may be done until it is undefined again. */
  hold(why: Transfer | undefined): void {
    this.#held = why;
  }

  /** @throws StepOrderError while blocks are on their way */
  expectNone(method: string): void {
    if (this.#held !== undefined) throw new StepOrderError(method, `${FIRST[this.#held]} first`);
  }

  /** Holds until it is done. */
  async during(why: Transfer, act: () => Promise<void>): Promise<void> {
    this.#held = why;
    try {
      await act();
    } finally {
      this.#held = undefined;
    }
  }

  /** Puts known blocks back, and holds until that is committed or cancelled. */
  async importPrefixes(
    sequences: KvSequences,
    blocks: readonly PrefixBlock[],
    give: GiveBlock,
  ): Promise<PendingPrefixes> {
    this.#held = "importPrefixes";
    let isPending = false;
    const settled = (settle: () => void) => (): void => {
      if (!isPending) return;
      isPending = false;
      this.#held = undefined;
      settle();
    };
    try {
      const { blocks: count, commit, cancel } = await sequences.giveBlocks(blocks, give);
      isPending = true;
      return { blocks: count, commit: settled(commit), cancel: settled(cancel) };
    } finally {
      if (!isPending) this.#held = undefined;
    }
  }
}
