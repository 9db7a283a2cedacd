// What crosses between the host and a rank's worker: control calls (Comlink) and two bare messages. Plain data only.

import type { PlainError } from "../errors/plain-error.ts";
import type { GroupSettings } from "../group/group-settings.ts";
import type { HostProcess } from "./host-process.ts";

/** What a rank needs to join a group. */
export interface GroupDescriptor extends GroupSettings {
  /** Where the transport has it: see `HostGroup.place`. */
  readonly place: unknown;
}

/** What a rank needs of the host to start, besides its place (rank-place.ts). Plain data. */
export interface RankConfiguration {
  readonly rank: number;
  readonly size: number;
  readonly hostProcess: HostProcess;
  /** Groups that this rank belongs to. */
  readonly groups: readonly GroupDescriptor[];
  /** URL of the program module; undefined where the worker has it. */
  readonly program: string | undefined;
  /** Given to the program's `setup`. */
  readonly options: unknown;
}

/** Outcome of a control call. Errors come back as plain data, because cloning loses their class. */
export type Reply = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly error: PlainError };

/** What the host learns of the program. */
export interface StartedProgram {
  /** The program takes calls while others are under way. */
  readonly concurrent: boolean;
}

/** What a rank's worker answers to. */
export interface RankControl {
  /** Joins the groups, imports the program and runs its `setup`. Answers a {@link StartedProgram}. */
  start(configuration: RankConfiguration): Promise<Reply>;
  /**
   * Calls a method of the program, unless the host has cancelled the call. `callWord` says which, if it can be
   * cancelled.
   */
  invoke(method: string, args: readonly unknown[], callWord: number | undefined): Promise<Reply>;
  /** Joins a group, in place of an aborted one of the same name. */
  join(descriptor: GroupDescriptor): Promise<Reply>;
  /** Ends this rank's part in a group: its control block may be used again. */
  leaveGroup(generation: number, because: "closed" | "replaced"): Promise<Reply>;
  /** Runs the onClose callbacks. */
  close(): Promise<Reply>;
}

/** A message outside Comlink: the worker listens, has something to let go of before it ends, or is about to die. */
export type RankNotice =
  | { readonly lockstep: "ready" }
  | { readonly lockstep: "holding" }
  | { readonly lockstep: "crashed"; readonly error: PlainError };

/** A message outside Comlink, from the host: what its end of the transport tells before the message that follows. */
export interface TransportNotice {
  readonly lockstep: "transport";
  readonly news: unknown;
}

export function isTransportNotice(data: unknown): data is TransportNotice {
  return typeof data === "object" && data !== null && Reflect.get(data, "lockstep") === "transport";
}

export function isRankNotice(data: unknown): data is RankNotice {
  return typeof data === "object" && data !== null && "lockstep" in data;
}
