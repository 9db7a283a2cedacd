// Slices that a rank shares with everybody cross once to each process: one rank of the process, the lander, takes them;
// the others read them where they landed. The lander's record of the tensor leads there, so they copy what it says.
//
// The lander says by a word of the group's block of which round it has landed what a peer shares. It gives the landing
// back when its next collective begins: by then its peers have told that they have read it.

import { copyRecordLead } from "../../wire/tensor-record.ts";
import { landingRanks } from "./landing-ranks.ts";
import type { LocalPeers } from "./local-peers.ts";
import type { RemotePeers } from "./remote-peers.ts";
import type { RankHome } from "./tags.ts";

export class SharedSlices {
  readonly #rank: number;
  readonly #words: Int32Array;
  readonly #local: LocalPeers;
  readonly #remote: RemotePeers;
  /** First word of this rank's rooms. Those of all ranks of a process are alike. */
  readonly #firstRoom: number;
  /** By place in the group: who lands here what that rank shares. */
  readonly #landers: readonly number[];
  /** By place in the group: whether this rank is landing what that rank shares. */
  readonly #isLanding: boolean[];
  /** By place in the group: records that will lead to where another rank lands, as words from the first room. */
  readonly #awaited: number[][];

  /** `rank`: this rank's place in the group. */
  constructor(
    words: Int32Array,
    homes: readonly RankHome[],
    rank: number,
    firstRoom: number,
    local: LocalPeers,
    remote: RemotePeers,
  ) {
    this.#words = words;
    this.#rank = rank;
    this.#firstRoom = firstRoom;
    this.#local = local;
    this.#remote = remote;
    this.#landers = landingRanks(homes, homes[rank]?.process);
    this.#isLanding = homes.map(() => false);
    this.#awaited = homes.map(() => []);
  }

  /** See {@link SliceExchange.takeShared}, of a peer of another process. */
  take(peer: number, record: number, axis: number, start: number, count: number): void {
    if (this.#landers[peer] !== this.#rank) this.#awaited[peer]?.push(record - this.#firstRoom);
    else {
      this.#isLanding[peer] = true;
      this.#remote.take(peer, record, axis, start, count);
    }
  }

  /** Which other rank has to land, in this round, what this rank is to read of a peer; undefined when none has. */
  awaitedLander(peer: number): number | undefined {
    return (this.#awaited[peer]?.length ?? 0) > 0 ? this.#landers[peer] : undefined;
  }

  /** Tells the ranks of this process what has landed, whomever this rank waits for. */
  tellLanded(round: number): void {
    for (const peer of this.#remote.ranks) {
      if (this.#isLanding[peer] !== true || !this.#remote.hasTaken(peer)) continue;
      this.#isLanding[peer] = false;
      this.#local.tellLanded(this.#rank, peer, round);
    }
  }

  /** Whether what this rank is to read of a peer in a round has landed. Then the peer's records lead there. */
  hasLanded(peer: number, round: number): boolean {
    const awaited = this.#awaited[peer];
    const lander = this.#landers[peer] ?? this.#rank;
    if (awaited === undefined || awaited.length === 0) return true;
    if (!this.#local.hasLanded(lander, peer, round)) return false;
    const rooms = this.#local.roomsWord(lander);
    for (const record of awaited) copyRecordLead(this.#words, rooms + record, this.#firstRoom + record);
    awaited.length = 0;
    return true;
  }
}
