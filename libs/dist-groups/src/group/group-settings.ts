/** What a process group is, whatever carries it. Plain data, the same on every rank. */
export interface GroupSettings {
  readonly name: string;
  /** Tells groups of the same name apart. */
  readonly generation: number;
  /** Global ranks, in group order. */
  readonly ranks: readonly number[];
  /** Largest message, in bytes that a rank brings, that takes the staged protocol. */
  readonly stagedLimit: number;
  /** The same for an all-reduce. */
  readonly stagedAllReduceLimit: number;
  /** Default deadline of a collective. */
  readonly deadlineMs: number;
}
