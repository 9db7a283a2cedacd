import type { NativeScheduler } from "./native-scheduler.ts";
import type { RankStatus } from "./rank-status.ts";

/** A move costs some 40 us, and the scheduler may have good reasons to undo it: not more often than this. */
const MOVE_EVERY_MS = 5;

/**
 * Keeps ranks that wait for each other off the same core while there are as many cores as ranks. Schedulers like to
 * wake a thread on the core of the thread that woke it. Two ranks that then yield to each other stay there, at several
 * microseconds a round instead of a fraction of one; two that compute take turns while another core idles. So a rank
 * says where it runs when it has spun in vain and when it comes to a peer that is parked. Of two that wait for each
 * other on one core, the later rank moves; of two of which one woke the other, the one that was woken. Nothing is
 * pinned: the scheduler may move both at any time.
 */
export class CoreSpread {
  readonly #rank: number;
  readonly #status: RankStatus;
  readonly #scheduler: NativeScheduler;
  #movedAt = 0;

  constructor(rank: number, status: RankStatus, scheduler: NativeScheduler) {
    this.#rank = rank;
    this.#status = status;
    this.#scheduler = scheduler;
  }

  /** This rank is about to wake a parked peer. */
  wakes(): void {
    this.#status.runsOn(this.#rank, this.#scheduler.currentCore());
  }

  /** This rank has spun for `peer` (a global rank) without success. True when both sit on one core. */
  sharesCoreWith(peer: number): boolean {
    const core = this.#scheduler.currentCore();
    this.#status.runsOn(this.#rank, core);
    return core >= 0 && this.#status.core(peer) === core;
  }

  /** This rank and `peer` wait for each other on one core: the later of the two moves. */
  partFrom(peer: number): void {
    if (this.#rank > peer) this.#leaveIfShared(peer, this.#scheduler.currentCore());
  }

  /** This rank was parked until `peer` came. */
  wokenBy(peer: number): void {
    this.#leaveIfShared(peer, this.#scheduler.currentCore());
  }

  #leaveIfShared(peer: number, core: number): void {
    if (core < 0 || this.#status.core(peer) !== core) return;
    const now = performance.now();
    if (now - this.#movedAt < MOVE_EVERY_MS) return;
    this.#movedAt = now;
    this.#scheduler.leaveCore(core);
  }
}
