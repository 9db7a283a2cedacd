import type { SharedHeap } from "@lockstep/tensor";
import type { HostGroup, HostTransport } from "../world-transport.ts";
import { type ControlBlockPlace, controlBlockLayout, LINE_WORDS } from "./control-block.ts";
import { abortGroup, isAborted } from "./group-abort.ts";
import { RankStatus } from "./rank-status.ts";

/** What a rank needs to open its end. */
export interface SharedMemoryInvitation {
  readonly size: number;
  /** Byte offset of the world's status block. */
  readonly statusOffset: number;
  /** When the world opened, by the host's `Date.now()`. */
  readonly openedAt: number;
}

/** A staging area has whole lines. */
export const STAGING_STEP_BYTES = LINE_WORDS * 4;

/** The host's end of a world whose ranks share one memory: the control blocks of its groups, and its status block. */
export class SharedMemoryHost implements HostTransport {
  readonly health: RankStatus;
  readonly invitation: SharedMemoryInvitation;
  /** Ranks see all in the memory. */
  readonly news = undefined;
  readonly #control: SharedHeap;
  readonly #stagingBytes: number;
  readonly #initialProgress: number;

  /** `control` is the range of the world's memory that blocks are taken from. */
  constructor(control: SharedHeap, size: number, stagingBytes: number, initialProgress: number) {
    this.#control = control;
    this.#stagingBytes = stagingBytes;
    this.#initialProgress = initialProgress;
    const statusOffset = control.allocate(RankStatus.totalWords(size) * 4);
    const openedAt = Date.now();
    this.health = new RankStatus(control.buffer, statusOffset, size, openedAt);
    this.health.nextEpoch();
    this.invitation = { size, statusOffset, openedAt };
  }

  /** The largest staging area with which the status block and the control block of all ranks fit `controlBytes`. */
  static mostStagingBytes(size: number, controlBytes: number): number {
    const fixed = (RankStatus.totalWords(size) + controlBlockLayout(size, 0).totalWords) * 4 + STAGING_STEP_BYTES;
    return Math.floor((controlBytes - fixed) / (2 * size * STAGING_STEP_BYTES)) * STAGING_STEP_BYTES;
  }

  /** Allocates and clears the control block of a new group. */
  open(ranks: readonly number[]): HostGroup {
    const control = this.#control;
    const layout = controlBlockLayout(ranks.length, this.#stagingBytes);
    const byteOffset = control.allocate(layout.totalWords * 4);
    const words = new Int32Array(control.buffer, byteOffset, layout.totalWords);
    // Staging areas and flight rings need no clearing, and stay out of resident memory until used.
    words.fill(0, 0, layout.staging(0, 0));
    for (let rank = 0; rank < ranks.length; rank++) {
      words[layout.progressWord(rank)] = this.#initialProgress;
      words[layout.flightRing(rank)] = 0;
    }
    const place: ControlBlockPlace = {
      byteOffset,
      stagingBytes: this.#stagingBytes,
      initialProgress: this.#initialProgress,
    };
    return {
      place,
      words,
      flightRing: layout.flightRing,
      get isAborted() {
        return isAborted(words, layout);
      },
      abort: (cause) => abortGroup(words, layout, layout.size, cause),
      release: () => control.release(byteOffset),
    };
  }
}
