import { LockstepError, registerErrorClass } from "@lockstep/tensor";
import type { FlightRecord } from "../wire/flight-types.ts";

/** `rank 2` or `ranks 0, 3` */
export function formatRanks(ranks: readonly number[]): string {
  return `${ranks.length === 1 ? "rank" : "ranks"} ${ranks.length === 0 ? "(none)" : ranks.join(", ")}`;
}

/** A text that ends as a sentence does. */
export function asSentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** A rank threw, had an unhandled rejection, exited, or stopped answering. */
export class RankCrashed extends LockstepError {
  static {
    registerErrorClass("RankCrashed", RankCrashed);
  }

  readonly _tag = "RankCrashed";
  /** Global rank. */
  readonly rank: number;
  /** What happened, in words. */
  readonly reason: string;

  constructor(rank: number, reason: string, cause?: unknown) {
    super(asSentence(`rank ${rank} crashed: ${reason}`), cause === undefined ? undefined : { cause });
    this.rank = rank;
    this.reason = reason;
  }
}

/**
 * Some ranks did not come to a collective before the deadline of a rank that waited for them. Thrown on every rank that
 * waited; the group is aborted.
 */
export class CollectiveTimeout extends LockstepError {
  static {
    registerErrorClass("CollectiveTimeout", CollectiveTimeout);
  }

  readonly _tag = "CollectiveTimeout";
  /** Name of the group. */
  readonly group: string;
  /** The collective the waiting ranks were in, such as `allGather`. */
  readonly op: string;
  /** How many collectives the group had started before this one. */
  readonly sequence: number;
  /** Global ranks that did not come: all of them. */
  readonly missing: readonly number[];
  /** How long was waited, in milliseconds. */
  readonly deadlineMs: number;
  /** On the host: what every rank had done when the host learned of it. */
  declare readonly flightRecord?: FlightRecord;

  constructor(group: string, op: string, sequence: number, missing: readonly number[], deadlineMs: number) {
    super(
      `${formatRanks(missing)} did not come to ${op} (sequence ${sequence}) of group "${group}" ` +
        `within ${deadlineMs} ms. ` +
        "The group is aborted: look at what the missing ranks were doing, and create a new group to go on.",
    );
    this.group = group;
    this.op = op;
    this.sequence = sequence;
    this.missing = missing;
    this.deadlineMs = deadlineMs;
  }
}

/** What some ranks were about to do in a collective. */
export interface CollectiveSide {
  /** Global ranks. */
  readonly ranks: readonly number[];
  /** The collective and its arguments, in words. */
  readonly description: string;
}

/** The ranks of a group called different collectives, or the same one with different arguments. Nothing was moved. */
export class CollectiveMismatch extends LockstepError {
  static {
    registerErrorClass("CollectiveMismatch", CollectiveMismatch);
  }

  readonly _tag = "CollectiveMismatch";
  /** Name of the group. */
  readonly group: string;
  /** How many collectives the group had started before this one. */
  readonly sequence: number;
  /** What the ranks were about to do, those that agree together. */
  readonly sides: readonly CollectiveSide[];

  constructor(group: string, sequence: number, sides: readonly CollectiveSide[]) {
    const listed = sides.map((side) => `${formatRanks(side.ranks)}: ${side.description}`).join("; ");
    super(
      `the ranks of group "${group}" disagree about collective number ${sequence}: ${listed}. ` +
        "Every rank must make the same calls in the same order. The group is aborted.",
    );
    this.group = group;
    this.sequence = sequence;
    this.sides = sides;
  }
}

/** A collective of an aborted group was called or was going on. `cause` says why the group was aborted. */
export class GroupAborted extends LockstepError {
  static {
    registerErrorClass("GroupAborted", GroupAborted);
  }

  readonly _tag = "GroupAborted";
  /** Name of the group. */
  readonly group: string;
  /** The collective that was called. */
  readonly op: string;
  /** Global ranks whose failure aborted the group; empty when nobody failed (a close, an interruption). */
  readonly failedRanks: readonly number[];

  constructor(group: string, op: string, failedRanks: readonly number[], cause: Error) {
    super(
      `${op}: group "${group}" is aborted: ${asSentence(cause.message)} ` +
        "Aborted groups stay aborted: create a new group over the ranks that are left.",
      { cause },
    );
    this.group = group;
    this.op = op;
    this.failedRanks = failedRanks;
  }
}

/**
 * A group was ended: the host closed it, or a newer one of its name took its place. The cause of a `GroupAborted`.
 */
export class GroupDestroyed extends LockstepError {
  static {
    registerErrorClass("GroupDestroyed", GroupDestroyed);
  }

  readonly _tag = "GroupDestroyed";
  /** Name of the group. */
  readonly group: string;

  constructor(group: string, reason: string) {
    super(`group "${group}" is gone: ${asSentence(reason)}`);
    this.group = group;
  }
}

/** A collective was called from within another collective of the same group on the same rank. */
export class ReentrantCollective extends LockstepError {
  static {
    registerErrorClass("ReentrantCollective", ReentrantCollective);
  }

  readonly _tag = "ReentrantCollective";
  /** Name of the group. */
  readonly group: string;
  /** The collective that was called. */
  readonly op: string;
  /** The collective that was running. */
  readonly running: string;

  constructor(group: string, op: string, running: string) {
    super(`${op} of group "${group}" was called while ${running} of the same group was running on this rank.`);
    this.group = group;
    this.op = op;
    this.running = running;
  }
}

/**
 * A call did not return from some ranks before its deadline, and their groups are aborted; or it did not start, and
 * nothing is.
 */
export class CallTimeout extends LockstepError {
  static {
    registerErrorClass("CallTimeout", CallTimeout);
  }

  readonly _tag = "CallTimeout";
  /** Method of the program that was called. */
  readonly method: string;
  /** Global ranks that had not returned, or that were still inside earlier calls: all of them. */
  readonly ranks: readonly number[];
  /** How long was waited, in milliseconds. */
  readonly deadlineMs: number;
  /** False when the call did not start. */
  readonly started: boolean;
  /** What every rank had done when the deadline passed. */
  declare readonly flightRecord?: FlightRecord;

  constructor(method: string, ranks: readonly number[], deadlineMs: number, started = true) {
    super(
      started
        ? `${method} did not return from ${formatRanks(ranks)} within ${deadlineMs} ms.`
        : `${method} did not start within ${deadlineMs} ms: ${formatRanks(ranks)} had not come out of an earlier call.`,
    );
    this.method = method;
    this.ranks = ranks;
    this.deadlineMs = deadlineMs;
    this.started = started;
  }
}

/** A call was given up because its AbortSignal fired or its fiber was interrupted. */
export class CallInterrupted extends LockstepError {
  static {
    registerErrorClass("CallInterrupted", CallInterrupted);
  }

  readonly _tag = "CallInterrupted";
  /** Method of the program that was called. */
  readonly method: string;
  /** Global ranks that had not returned. */
  readonly ranks: readonly number[];

  constructor(method: string, ranks: readonly number[], reason: string) {
    super(`${method} was interrupted before ${formatRanks(ranks)} returned: ${asSentence(reason)}`);
    this.method = method;
    this.ranks = ranks;
  }
}

/** The world is closed, or closed during the call. */
export class WorldClosed extends LockstepError {
  static {
    registerErrorClass("WorldClosed", WorldClosed);
  }

  readonly _tag = "WorldClosed";
  /** What was asked of the world, such as `call`. */
  readonly operation: string;

  constructor(operation: string) {
    super(`${operation}: the world is closed.`);
    this.operation = operation;
  }
}

/** A world could not be opened. Every worker that had started is gone. */
export class WorldStartFailed extends LockstepError {
  static {
    registerErrorClass("WorldStartFailed", WorldStartFailed);
  }

  readonly _tag = "WorldStartFailed";
  /** Global ranks that failed to start or did not start in time. */
  readonly ranks: readonly number[];

  constructor(ranks: readonly number[], reason: string, cause?: unknown) {
    super(
      `the world did not start (${formatRanks(ranks)}): ${asSentence(reason)}`,
      cause === undefined ? undefined : { cause },
    );
    this.ranks = ranks;
  }
}

/** A rank was to run where none can: `runRank` belongs into the module of a worker that `openWorld` starts, once. */
export class RankMisplaced extends LockstepError {
  static {
    registerErrorClass("RankMisplaced", RankMisplaced);
  }

  readonly _tag = "RankMisplaced";
  /** Where or when it was called, in words. */
  readonly place: string;

  constructor(place: string) {
    super(
      `runRank was called ${place}. Call it once, in the module of a worker that openWorld({ worker }) starts; ` +
        "on the host, open a world.",
    );
    this.place = place;
  }
}

/**
 * An `onClose` callback of a rank failed, or a rank did not finish its callbacks in time. The world is closed anyway.
 */
export class CloseFailed extends LockstepError {
  static {
    registerErrorClass("CloseFailed", CloseFailed);
  }

  readonly _tag = "CloseFailed";
  /** Global ranks whose callbacks failed or did not end. */
  readonly ranks: readonly number[];

  constructor(ranks: readonly number[], reason: string, cause?: unknown) {
    super(`closing ${formatRanks(ranks)}: ${asSentence(reason)}`, cause === undefined ? undefined : { cause });
    this.ranks = ranks;
  }
}

/** What some ranks gave for an option. */
export interface OptionSide {
  /** Global ranks. */
  readonly ranks: readonly number[];
  /** The value, in words; a long one from where it differs. */
  readonly value: string;
}

/** An option that has different values on different ranks. */
export interface OptionDisagreement {
  /** Name of the option. */
  readonly option: string;
  /** In the order of the group's ranks. */
  readonly sides: readonly OptionSide[];
}

/** Most options that a message tells about, and most sides of each. */
const MOST_TOLD = 8;

function formatSides(sides: readonly OptionSide[]): string {
  const told = sides.slice(0, MOST_TOLD).map(({ ranks, value }) => `${value} on ${formatRanks(ranks)}`);
  if (sides.length > MOST_TOLD) told.push(`and ${sides.length - MOST_TOLD} more values`);
  return told.join(", ");
}

/**
 * The ranks of a group opened something together with options that differ. Thrown on every rank; the group goes on.
 */
export class OptionsDisagree extends LockstepError {
  static {
    registerErrorClass("OptionsDisagree", OptionsDisagree);
  }

  readonly _tag = "OptionsDisagree";
  /** Name of the group. */
  readonly group: string;
  /** What was to be opened, such as `DcpAttention.open`. */
  readonly what: string;
  /** The first option that differs. */
  readonly option: string;
  /** Its values. */
  readonly sides: readonly OptionSide[];
  /** Every option that differs, the first included. */
  readonly disagreements: readonly OptionDisagreement[];

  constructor(group: string, what: string, disagreements: readonly OptionDisagreement[]) {
    const listed = disagreements
      .slice(0, MOST_TOLD)
      .map(({ option, sides }) => `\`${option}\` is ${formatSides(sides)}`);
    if (disagreements.length > MOST_TOLD) listed.push(`and ${disagreements.length - MOST_TOLD} more options differ`);
    super(`${what}: the ranks of group "${group}" disagree: ${listed.join("; ")}. Give every rank the same options.`);
    this.group = group;
    this.what = what;
    this.option = disagreements[0]?.option ?? "";
    this.sides = disagreements[0]?.sides ?? [];
    this.disagreements = disagreements;
  }
}

declare const remote: unique symbol;

/** A tag that is not known to the compiler; told apart from the literal tags, so that `catchTag` narrows. */
export type RemoteTag = string & { readonly [remote]: true };

/**
 * A typed error, thrown on a rank, whose class is not defined on this thread. `_tag`, `name` and the fields are those
 * of the original; it becomes an instance of its class when that is imported here (`registerErrorClass`).
 */
export class RemoteError extends LockstepError {
  /** The tag of the original. */
  readonly _tag: RemoteTag;

  constructor(tag: string, message: string) {
    super(message);
    this._tag = tag as RemoteTag;
  }
}
