/** A call in the order of calls. */
export interface Turn {
  readonly ranks: readonly number[];
  /** Ranks that have not come out of it. */
  readonly inside: Set<number>;
  readonly startClock: () => void;
  readonly start: () => void;
  state: "waiting" | "timed" | "started" | "settled";
}

/**
 * The order of the calls of a world whose ranks take one call at a time: a call starts, on all of its ranks, when every
 * earlier call that shares a rank with it has settled and these ranks have come out of it. So a call finds its ranks
 * idle, and peers that would wait for what a failed call left undone have been freed.
 *
 * The clock of a call that waits starts when the calls before it have settled, which they do by their own deadlines.
 */
export class CallQueue {
  readonly #turns = new Set<Turn>();
  readonly #size: number;
  #advancing = false;
  #again = false;

  /** `size`: ranks of the world. */
  constructor(size: number) {
    this.#size = size;
  }

  /**
   * Lines a call up; {@link CallQueue.advance} starts it. `startClock` is called at most once and before `start`;
   * neither is once the call has settled.
   */
  add(ranks: readonly number[], startClock: () => void, start: () => void): Turn {
    const turn: Turn = { ranks, inside: new Set(), start, startClock, state: "waiting" };
    this.#turns.add(turn);
    return turn;
  }

  /** A call has its outcome. Ranks that are still inside hold up the calls behind. */
  settled(turn: Turn): void {
    turn.state = "settled";
    this.advance();
  }

  /** A rank has come out of a call that was started. */
  cameOut(turn: Turn, rank: number): void {
    turn.inside.delete(rank);
    this.advance();
  }

  /** The ranks of a call that has not started that are still inside earlier ones. */
  busyBefore(turn: Turn): readonly number[] {
    const busy = new Set<number>();
    for (const earlier of this.#turns) {
      if (earlier === turn) break;
      for (const rank of earlier.inside) busy.add(rank);
    }
    return turn.ranks.filter((rank) => busy.has(rank));
  }

  /** Starts what can start. What a start calls may come back here. */
  advance(): void {
    this.#again = true;
    if (this.#advancing) return;
    this.#advancing = true;
    try {
      while (this.#again) {
        this.#again = false;
        this.#startFree();
      }
    } finally {
      this.#advancing = false;
    }
  }

  #startFree(): void {
    /** Ranks that an earlier call holds, and those of which an earlier call has no outcome. */
    const held = new Set<number>();
    const unsettled = new Set<number>();
    for (const turn of this.#turns) {
      if (turn.state === "settled" && turn.inside.size === 0) {
        this.#turns.delete(turn);
        continue;
      }
      if (turn.state === "waiting" && !turn.ranks.some((rank) => unsettled.has(rank))) {
        turn.state = "timed";
        turn.startClock();
      }
      if (turn.state === "timed" && !turn.ranks.some((rank) => held.has(rank))) {
        turn.state = "started";
        for (const rank of turn.ranks) turn.inside.add(rank);
        turn.start();
        // What follows is looked at again, when this start has changed what is held.
        if (this.#again) return;
      }
      for (const rank of turn.inside) held.add(rank);
      if (turn.state === "settled") continue;
      for (const rank of turn.ranks) {
        held.add(rank);
        unsettled.add(rank);
      }
      if (unsettled.size === this.#size) return;
    }
  }
}
