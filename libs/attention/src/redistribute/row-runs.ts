import { type KvLayout, StoredPlaces } from "./kv-layout.ts";

/** Positions of a text that one block of the new layout gets. */
export interface BlockMove {
  /** The first position, with which the new block begins. */
  readonly start: number;
  /** One past the last one. */
  readonly end: number;
  /** Blocks of the old layout that hold them, from the one that holds `start` on. */
  readonly sources: readonly number[];
  /** The new block. */
  readonly target: number;
}

/** Rows that lie one after another in the old layout and in the new one. */
export interface RowRun {
  /** Shard of the old layout that stores them. */
  readonly from: number;
  /** Slot of the first one there. */
  readonly fromSlot: number;
  /** Shard of the new layout that is to store them. */
  readonly to: number;
  /** Slot that the first one gets there. */
  readonly toSlot: number;
  /** How many. */
  readonly count: number;
}

/** Where the rows of all moved blocks lie, and where they go: each position once, in order, in runs as long as can be. */
export function* rowRuns(from: KvLayout, to: KvLayout, moves: Iterable<BlockMove>): Generator<RowRun> {
  let last: RowRun | undefined;
  for (const run of turns(new StoredPlaces(from), new StoredPlaces(to), moves)) {
    if (last !== undefined && continues(last, run)) {
      last = { ...last, count: last.count + run.count };
      continue;
    }
    if (last !== undefined) yield last;
    last = run;
  }
  if (last !== undefined) yield last;
}

/** The same, a turn of either layout at a time. */
function* turns(from: StoredPlaces, to: StoredPlaces, moves: Iterable<BlockMove>): Generator<RowRun> {
  for (const { start, end, sources, target } of moves) {
    const first = Math.floor(start / from.blockPositions);
    for (let position = start; position < end; ) {
      const source = sources[Math.floor(position / from.blockPositions) - first];
      if (source === undefined) throw new RangeError(`position ${position} has no block to come from`);
      const old = from.find(position, source);
      const next = to.find(position, target);
      const stop = Math.min(end, old.end, next.end);
      yield { from: old.shard, fromSlot: old.slot, to: next.shard, toSlot: next.slot, count: stop - position };
      position = stop;
    }
  }
}

function continues(run: RowRun, next: RowRun): boolean {
  return (
    run.from === next.from &&
    run.to === next.to &&
    run.fromSlot + run.count === next.fromSlot &&
    run.toSlot + run.count === next.toSlot
  );
}
