// What ranks tell the host about what they have done of late. Plain data.

import type { DType } from "@lockstep/tensor";
import type { Reduction } from "./collective-header.ts";

/**
 * Where a rank is in a collective: it waits for its peers to come; all have come and data is moving (or peers are still
 * reading its own); it has returned; it has thrown.
 */
export const FLIGHT_STATES = ["waiting", "moving", "done", "failed"] as const;
export type FlightState = (typeof FLIGHT_STATES)[number];

/** One collective of one rank. */
export interface FlightOp {
  /** How many collectives the rank had started in this group before. */
  readonly sequence: number;
  /** The collective, such as `allGather`. */
  readonly op: string;
  /** Of its tensors; undefined when it has none. */
  readonly dtype: DType | undefined;
  /** Of a collective that reduces; undefined otherwise. */
  readonly reduction: Reduction | undefined;
  /** Of the whole tensor; empty for a barrier or an all-to-all. */
  readonly shape: readonly number[];
  /** Bytes it brings from peers. */
  readonly bytes: number;
  /**
   * Milliseconds since the world opened, by a coarse clock: the host raises it every 10 ms while it waits for ranks and
   * its event loop turns; a rank that parks reads the real clock afterwards.
   */
  readonly startMs: number;
  /** Undefined while it is going on. */
  readonly endMs: number | undefined;
  /** `waiting` for peers to come; `moving` data, all have come; `done`; `failed`. */
  readonly state: FlightState;
}

/** What one rank has done in one group of late. */
export interface RankFlight {
  /** Global rank. */
  readonly rank: number;
  /** Collectives it has started in this group since it was made. */
  readonly started: number;
  /** Its last collectives, at most 256, the oldest first. */
  readonly ops: readonly FlightOp[];
}

/** What the ranks of one group have done of late. */
export interface GroupFlight {
  /** Name of the group. */
  readonly group: string;
  /** Tells groups of the same name apart: later ones have greater numbers. */
  readonly generation: number;
  /** In group order. */
  readonly ranks: readonly RankFlight[];
}

/** What all ranks of a world have done of late. Plain data. */
export interface FlightRecord {
  /** Milliseconds since the world opened. */
  readonly takenAtMs: number;
  /** What each group did. */
  readonly groups: readonly GroupFlight[];
}
