import { RankCrashed } from "../errors/errors.ts";
import { fromPlainError } from "../errors/plain-error.ts";
import type { HostHealth } from "../transport/world-transport.ts";

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
 * Finds ranks that end without an event, as a worker that exits does in Deno. Looks only while answers are owed: at the
 * exit mark a dying rank leaves, and at the heartbeat of a rank that has not begun what it was asked. A rank that is
 * busy cannot beat, so for it the deadline of the call is what counts.
 * Meanwhile it raises the coarse clock.
 */
export class Liveness {
  readonly #health: HostHealth;
  readonly #onDeath: (rank: number, error: RankCrashed) => void;
  readonly #watches = new Map<number, Watch>();
  #timer: ReturnType<typeof setInterval> | undefined;
  #clock: ReturnType<typeof setInterval> | undefined;

  constructor(health: HostHealth, onDeath: (rank: number, error: RankCrashed) => void) {
    this.#health = health;
    this.#onDeath = onDeath;
  }

  /** These ranks owe an answer. */
  watch(ranks: readonly number[]): void {
    for (const rank of ranks) {
      const watch = this.#watches.get(rank);
      if (watch !== undefined) watch.calls++;
      else {
        this.#watches.set(rank, { calls: 1, heartbeat: this.#health.heartbeat(rank), since: performance.now() });
      }
    }
    this.#health.tick();
    this.#clock ??= setInterval(() => this.#health.tick(), TICK_MS);
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
      if (this.#health.hasExited(rank)) {
        const error = fromPlainError(this.#health.failure(rank));
        this.#onDeath(rank, error instanceof RankCrashed ? error : new RankCrashed(rank, error.message, error));
        continue;
      }
      const heartbeat = this.#health.heartbeat(rank);
      // Before its first beat a rank is still loading: the deadline of the start covers that.
      if (heartbeat === 0 || heartbeat !== watch.heartbeat || this.#health.running(rank) > 0) {
        watch.heartbeat = heartbeat;
        watch.since = now;
      } else if (now - watch.since > SILENCE_MS) {
        this.#onDeath(rank, new RankCrashed(rank, `it has not answered or shown a heartbeat for ${SILENCE_MS} ms`));
      }
    }
  }
}
