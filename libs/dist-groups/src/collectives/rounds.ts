import type { SharedHeap } from "@lockstep/tensor";
import type { OperandTable } from "../reduction/operand-table.ts";
import type { ReduceKernels } from "../reduction/reduce.ts";
import type { GroupChannel } from "../transport/shared-memory/group-channel.ts";

/**
 * A collective as its rounds. `prepare` (different for each) checks the arguments, starts the collective on the channel
 * and fills this rank's header and staging area; the driver publishes it and waits for the peers; {@link Rounds.advance} then moves data.
 * The driver owns the waiting, so one description of an algorithm serves blocking and asynchronous callers.
 */
export interface Rounds {
  /**
   * Called when every rank has published round `round` (0 is those two). Does this rank's work and returns true when its
   * peers need another round: to read what it wrote, or to know that it has read what they wrote.
   */
  advance(round: number): boolean;
  /** Bytes the running collective brings to this rank from its peers. */
  readonly bytesReceived: number;
}

/** What the collectives of one rank in one group work with. */
export interface GroupMember {
  readonly channel: GroupChannel;
  readonly table: OperandTable;
  readonly kernels: ReduceKernels;
  /** Any range of the world's memory. */
  readonly heap: SharedHeap;
}
