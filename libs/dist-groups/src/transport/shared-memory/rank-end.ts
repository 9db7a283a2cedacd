import type { RankTransport } from "../world-transport.ts";
import type { ControlBlockPlace } from "./control-block.ts";
import type { SharedMemoryInvitation } from "./host-end.ts";
import { RankStatus } from "./rank-status.ts";
import { SharedMemoryTransport } from "./shared-memory-transport.ts";
import { openWaiting, type Waiting } from "./waiting.ts";

/** A rank's end of a world whose ranks share one memory. */
export class SharedMemoryRank implements RankTransport {
  readonly health: RankStatus;
  readonly #rank: number;
  readonly #buffer: ArrayBufferLike;
  readonly #waiting: Waiting;

  /** `rank` is global, `buffer` the world's memory, `cores` how many ranks can run at the same time. */
  constructor(rank: number, buffer: ArrayBufferLike, cores: number, invitation: SharedMemoryInvitation) {
    const { size, statusOffset, openedAt } = invitation;
    this.#rank = rank;
    this.#buffer = buffer;
    this.health = new RankStatus(buffer, statusOffset, size, openedAt);
    this.#waiting = openWaiting(rank, size, cores, this.health);
  }

  /** The host's end tells nothing: all is in the memory. */
  hear(): void {}

  join(ranks: readonly number[], place: unknown): SharedMemoryTransport {
    const block = place as ControlBlockPlace;
    return new SharedMemoryTransport(block, ranks, this.#rank, this.#buffer, this.health, this.#waiting);
  }
}
