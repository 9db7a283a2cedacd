// What the main threads of a job tell each other: how a world is opened and closed, and what goes on between the leader
// and the workers of other processes. Structured-cloned.

import type { RankHome } from "../transport/mpi/tags.ts";
import { builtinModule } from "@lockstep/tensor";

/** What a process needs to make its part of a world. */
export interface WorldPart {
  /** Number of the world in the job. */
  readonly world: number;
  readonly size: number;
  /** Where all ranks live. */
  readonly homes: readonly RankHome[];
  /** When the world opened, by the leader's `Date.now()`. */
  readonly openedAt: number;
  readonly heapBytesPerRank: number | undefined;
  readonly stagingBytes: number;
  /** Address of the module of the ranks' workers, where it is not the library's own. */
  readonly worker: string | undefined;
}

/** From the leader. */
export type LeaderMessage =
  | ({ readonly kind: "open" } & WorldPart)
  /** To the worker of a rank. */
  | { readonly kind: "to-rank"; readonly world: number; readonly rank: number; readonly message: unknown }
  | { readonly kind: "terminate"; readonly world: number; readonly rank: number }
  /** All workers have been terminated. */
  | { readonly kind: "close"; readonly world: number }
  /** It lives. */
  | { readonly kind: "pulse" }
  /** The job is over. */
  | { readonly kind: "bye"; readonly code: number };

/** To the leader. */
export type FollowerMessage =
  /** An event of the worker of a rank. */
  | {
      readonly kind: "from-rank";
      readonly world: number;
      readonly rank: number;
      readonly type: "message" | "error" | "close";
      /** What is told of it: data, a text, an exit code. */
      readonly detail: unknown;
    }
  /** A flight ring that has changed. */
  | {
      readonly kind: "ring";
      readonly world: number;
      readonly rank: number;
      readonly channel: number;
      readonly words: Int32Array;
    }
  | { readonly kind: "closed"; readonly world: number }
  /** It lives. */
  | { readonly kind: "pulse" }
  | { readonly kind: "bye" };

interface Cloning {
  serialize(value: unknown): Uint8Array;
  deserialize(bytes: Uint8Array): unknown;
}

function cloning(): Cloning {
  const found = builtinModule<Cloning>("node:v8");
  if (found === undefined) throw new Error("this runtime has no node:v8");
  return found;
}

/** A message as bytes. Throws what cannot be cloned. */
export function encodeMain(message: LeaderMessage | FollowerMessage): Uint8Array {
  return cloning().serialize(message);
}

export function decodeMain<Message extends LeaderMessage | FollowerMessage>(bytes: Uint8Array): Message {
  return cloning().deserialize(bytes) as Message;
}
