import type { SharedHeap } from "@lockstep/tensor";
import type { CollectiveSide } from "../errors/errors.ts";
import type { OperandTable } from "../reduction/operand-table.ts";
import type { ReduceKernels } from "../reduction/reduce.ts";
import type { SliceExchange, Transport } from "../transport/transport.ts";
import type { CollectiveName } from "../wire/collective-header.ts";

/**
 * A collective as its rounds. {@link Collective.prepare} begins it; the driver publishes what it announces, waits for
 * the peers and sees that all do the same; {@link Rounds.advance} then moves data. The driver owns the waiting, so one
 * description of an algorithm serves blocking and asynchronous callers.
 */
export interface Rounds {
  /**
   * Called when every rank has published round `round` (0 is that of `prepare`). Does this rank's work and returns true
   * when its peers need another round: to read what it wrote, or to know that it has read what they wrote.
   */
  advance(round: number): boolean;
  /**
   * Called before {@link Rounds.advance} where ranks cannot read each other's tensors: gives the slices of this rank's
   * tensors that peers will read in this round, and takes those that this rank will. True when there are any, on
   * whatever rank; every rank comes to the same answer.
   */
  transfer(round: number, slices: SliceExchange): boolean;
  /** Bytes the running collective brings to this rank from its peers. */
  readonly bytesReceived: number;
}

/** A collective, as a table of collectives has it. */
export interface Collective extends Rounds {
  /**
   * Takes the arguments of the call: checks them, begins, and fills this rank's staging area. When it throws, nothing
   * was published.
   */
  prepare(...args: readonly never[]): void;
  /** What the call returns, after the last round. */
  result?(): unknown;
}

/** What a collective needs of its run: see `group/collective-run.ts`. */
export interface CollectiveTurn {
  /** Of the group. */
  readonly name: string;
  readonly rank: number;
  readonly size: number;
  /** Global ranks, in group order. */
  readonly ranks: readonly number[];
  /** Largest message, in bytes that a rank brings, that takes the staged protocol. The same on every rank. */
  readonly stagedLimit: number;
  readonly stagedAllReduceLimit: number;
  /**
   * Starts a collective, whose staging area may be filled from now on. `signature`, `shape` and `flags` make its
   * header: see wire/collective-header.ts.
   */
  begin(
    op: CollectiveName,
    signature: number,
    shape: readonly number[],
    flags: number,
    deadlineMs: number | undefined,
  ): void;
  /** Aborts the group because its ranks disagree, and throws. */
  disagree(sides: readonly CollectiveSide[]): never;
}

/** What the collectives of one rank in one group work with. */
export interface GroupMember {
  readonly run: CollectiveTurn;
  readonly transport: Transport;
  readonly table: OperandTable;
  readonly kernels: ReduceKernels;
  /** The rank's memory: where its tensors lie. */
  readonly heap: SharedHeap;
}
