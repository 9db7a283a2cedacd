import { RankCrashed } from "../errors/errors.ts";
import { fromPlainError } from "../errors/plain-error.ts";
import type { RankStatus } from "../transport/shared-memory/rank-status.ts";

const CHECK_MS = 100;
/** Resolution of the coarse clock that ranks record with. */
const TICK_MS = 10;
/** An idle rank beats four times a second; one that is silent for so long while it owes an answer is gone. */
const SILENCE_MS = 8_000;

interface Watch {
  calls: number;
  heartbeat: number;
  since: number;
}

/**
 * Finds ranks that end without an event, as a worker that exits does in Deno. Looks only while answers are owed: at the exit
 * mark a dying rank leaves in shared memory, and at the heartbeat of a rank that has not begun what it was asked. A rank that
 * is busy cannot beat, so for it the deadline of the call is what counts.
 * Meanwhile it raises the coarse clock.
 */
export class Liveness {
  readonly #status: RankStatus;
  readonly #onDeath: (rank: number, error: RankCrashed) => void;
  readonly #watches = new Map<number, Watch>();
  #timer: ReturnType<typeof setInterval> | undefined;
  #clock: ReturnType<typeof setInterval> | undefined;

  constructor(status: RankStatus, onDeath: (rank: number, error: RankCrashed) => void) {
    this.#status = status;
    this.#onDeath = onDeath;
  }

  /** These ranks owe an answer. */
  watch(ranks: readonly number[]): void {
    for (const rank of ranks) {
      const watch = this.#watches.get(rank);
      if (watch !== undefined) watch.calls++;
      else {
        this.#watches.set(rank, { calls: 1, heartbeat: this.#status.heartbeat(rank), since: performance.now() });
      }
    }
    this.#status.tick();
    this.#clock ??= setInterval(() => this.#status.tick(), TICK_MS);
    this.#timer ??= setInterval(() => this.#check(), CHECK_MS);
  }

  /** A rank answered, or will not. */
  unwatch(rank: number): void {
    const watch = this.#watches.get(rank);
    if (watch !== undefined && --watch.calls === 0) this.#watches.delete(rank);
    if (this.#watches.size > 0) return;
    clearInterval(this.#timer);
    clearInterval(this.#clock);
    this.#timer = undefined;
    this.#clock = undefined;
  }

  #check(): void {
    const now = performance.now();
    for (const [rank, watch] of [...this.#watches]) {
      if (this.#status.hasExited(rank)) {
        const error = fromPlainError(this.#status.failure(rank));
        this.#onDeath(rank, error instanceof RankCrashed ? error : new RankCrashed(rank, error.message, error));
        continue;
      }
      const heartbeat = this.#status.heartbeat(rank);
      // Before its first beat a rank is still loading: the deadline of the start covers that.
      if (heartbeat === 0 || heartbeat !== watch.heartbeat || this.#status.running(rank) > 0) {
        watch.heartbeat = heartbeat;
        watch.since = now;
      } else if (now - watch.since > SILENCE_MS) {
        this.#onDeath(rank, new RankCrashed(rank, `it has not answered or shown a heartbeat for ${SILENCE_MS} ms`));
      }
    }
  }
}
