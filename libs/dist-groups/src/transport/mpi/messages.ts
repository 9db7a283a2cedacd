// What ranks and the leader tell each other outside groups, as JSON. Every rank's own mailbox takes RankMessages; the
// leader's main thread takes RankNews.

import type { PlainError } from "../../errors/plain-error.ts";

/**
 * Which world a message is about, by its number in the job: what was sent to a rank that had ended reaches a rank of a
 * later world in the same place.
 */
export interface OfWorld {
  readonly world: number;
}

/** To a rank. */
export type RankMessage =
  /** Somebody aborted a group. */
  | { readonly kind: "abort"; readonly channel: number; readonly cause: PlainError }
  | RankLeft
  /** A rank is gone for ever. */
  | { readonly kind: "exit"; readonly rank: number; readonly failure: PlainError }
  /** The eras of all ranks: failures of earlier ones are forgotten. */
  | { readonly kind: "eras"; readonly eras: readonly number[] }
  /** The world is gone. */
  | { readonly kind: "closed" };

/** A rank will not take part in what its peers are doing. */
export interface RankLeft {
  readonly kind: "left";
  readonly rank: number;
  /** The era of the rank in which it left. */
  readonly era: number;
  readonly failure: PlainError;
  /** Rounds that it had published by then, by the channel of the group: these may still be on their way. */
  readonly published: Readonly<Record<number, number>>;
}

/** From a rank to the leader. */
export type RankNews =
  | RankLeft
  | { readonly kind: "exit"; readonly rank: number; readonly failure: PlainError }
  | { readonly kind: "abort"; readonly channel: number; readonly cause: PlainError }
  /** Calls that it is running, and turns of its event loop. */
  | { readonly kind: "health"; readonly rank: number; readonly running: number; readonly beats: number };

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function encodeMessage(world: number, message: RankMessage | RankNews): Uint8Array {
  return encoder.encode(JSON.stringify({ world, ...message }));
}

export function decodeRankMessage(bytes: Uint8Array): RankMessage & OfWorld {
  return JSON.parse(decoder.decode(bytes)) as RankMessage & OfWorld;
}

export function decodeRankNews(bytes: Uint8Array): RankNews & OfWorld {
  return JSON.parse(decoder.decode(bytes)) as RankNews & OfWorld;
}
