import { ArgumentError, describe } from "@lockstep/tensor";
import { AllToAll } from "../collectives/all-to-all.ts";
import { readGroupFlight } from "../flight-record/flight-record.ts";
import type { GroupDescriptor } from "../rank/rank-protocol.ts";
import type { HostGroup, HostTransport } from "../transport/world-transport.ts";
import type { FlightRecord } from "../wire/flight-types.ts";

/** Bytes of a staging area. */
export const DEFAULT_STAGING_BYTES = 64 * 1024;
/** Largest staged messages, in bytes that a rank brings. */
export interface StagedLimits {
  readonly stagedLimit: number;
  /** Of an all-reduce, which stages n times the arithmetic of a direct one. */
  readonly stagedAllReduceLimit: number;
}

/**
 * The defaults, measured by `bun bench/staging.ts`. With a core per rank a round costs a tenth of a microsecond, and
 * staging pays for itself only while copying is about as cheap; with more ranks than cores a round costs some switches
 * of threads.
 */
function defaultStagedLimits(ranks: number, cores: number): StagedLimits {
  if (ranks > cores) return { stagedLimit: DEFAULT_STAGING_BYTES, stagedAllReduceLimit: DEFAULT_STAGING_BYTES };
  return { stagedLimit: 8 * 1024, stagedAllReduceLimit: 2 * 1024 };
}

interface RegisteredGroup {
  readonly descriptor: GroupDescriptor;
  /** Generation of the group that this one goes back to by renewals; its own when it is no renewed one. */
  readonly origin: number;
  readonly end: HostGroup;
}

/** The host's knowledge of all groups: who is in them, and its end of each. */
export class GroupRegistry {
  readonly #transport: HostTransport;
  readonly #deadlineMs: number;
  readonly #stagedLimits: StagedLimits;
  readonly #groups = new Set<RegisteredGroup>();
  #nextGeneration = 1;

  constructor(transport: HostTransport, deadlineMs: number, stagedLimits: StagedLimits) {
    this.#transport = transport;
    this.#deadlineMs = deadlineMs;
    this.#stagedLimits = stagedLimits;
  }

  /** Makes a new group; one that renews another has its origin. */
  create(name: string, ranks: readonly number[], origin?: number): GroupDescriptor {
    const end = this.#transport.open(ranks);
    const descriptor: GroupDescriptor = {
      name,
      generation: this.#nextGeneration++,
      ranks: [...ranks],
      place: end.place,
      ...this.#stagedLimits,
      deadlineMs: this.#deadlineMs,
    };
    this.#groups.add({ descriptor, origin: origin ?? descriptor.generation, end });
    return descriptor;
  }

  /** Gives back what a group holds. Only when no rank has a part in it any more. */
  release(descriptor: GroupDescriptor): void {
    for (const group of this.#groups) {
      if (group.descriptor !== descriptor) continue;
      this.#groups.delete(group);
      group.end.release();
    }
  }

  /** Groups called `name` that have a rank in common with `ranks`. */
  named(name: string, ranks: readonly number[]): readonly GroupDescriptor[] {
    return [...this.#groups]
      .map(({ descriptor }) => descriptor)
      .filter((descriptor) => descriptor.name === name && descriptor.ranks.some((rank) => ranks.includes(rank)));
  }

  /** The group of that origin, and those that it has taken the place of and that are not given back yet. */
  ofOrigin(origin: number): readonly GroupDescriptor[] {
    return [...this.#groups].filter((group) => group.origin === origin).map(({ descriptor }) => descriptor);
  }

  /** Origin of a group. */
  originOf(descriptor: GroupDescriptor): number {
    return [...this.#groups].find((group) => group.descriptor === descriptor)?.origin ?? descriptor.generation;
  }

  /** Groups that `rank` belongs to. */
  of(rank: number): readonly GroupDescriptor[] {
    return [...this.#groups].map(({ descriptor }) => descriptor).filter(({ ranks }) => ranks.includes(rank));
  }

  /** What every group's ranks have done of late. */
  flightRecord(takenAtMs: number): FlightRecord {
    const groups = [...this.#groups].map(({ descriptor, end }) =>
      readGroupFlight(descriptor, end.words, end.flightRing),
    );
    return { takenAtMs, groups };
  }

  isAborted(descriptor: GroupDescriptor): boolean {
    return [...this.#groups].some((group) => group.descriptor === descriptor && group.end.isAborted);
  }

  /** Aborts one group. */
  abortGroup(descriptor: GroupDescriptor, cause: Error): void {
    for (const { descriptor: other, end } of this.#groups) if (other === descriptor) end.abort(cause);
  }

  /** Groups that are aborted, without those that a living group of the same name has taken the place of. */
  aborted(): readonly GroupDescriptor[] {
    const all = [...this.#groups].map(({ descriptor }) => descriptor).toSorted((a, b) => b.generation - a.generation);
    const isLatest = ({ name, ranks, generation }: GroupDescriptor): boolean =>
      !all.some(
        (other) =>
          other.generation > generation && other.name === name && other.ranks.some((rank) => ranks.includes(rank)),
      );
    return all.filter((descriptor) => this.isAborted(descriptor) && isLatest(descriptor)).reverse();
  }

  /** Aborts every group that has one of `ranks`. */
  abort(ranks: Iterable<number>, cause: Error): void {
    const hit = new Set(ranks);
    for (const { descriptor, end } of this.#groups) {
      if (descriptor.ranks.some((rank) => hit.has(rank))) end.abort(cause);
    }
  }
}

/**
 * Throws unless a staging area of this size is made of whole steps, holds the tensor records of an all-to-all of `size`
 * ranks, and is no larger than `mostBytes`.
 */
export function checkStagingBytes(stagingBytes: number, size: number, stepBytes: number, mostBytes: number): void {
  const least = Math.ceil(AllToAll.recordBytes(size) / stepBytes) * stepBytes;
  const isWhole = Number.isInteger(stagingBytes) && stagingBytes % stepBytes === 0;
  if (isWhole && stagingBytes >= least && stagingBytes <= mostBytes) return;
  const expected = `a multiple of ${stepBytes}, from ${least} to ${mostBytes}`;
  throw new ArgumentError("openWorld", "stagingBytes", expected, describe(stagingBytes));
}

/** The limits that `stagedLimit` asks for, or else the defaults, as far as they fit a staging area. */
export function chooseStagedLimits(
  stagedLimit: number | undefined,
  stagingBytes: number,
  ranks: number,
  cores: number,
): StagedLimits {
  if (stagedLimit === undefined) {
    const limits = defaultStagedLimits(ranks, cores);
    return {
      stagedLimit: Math.min(stagingBytes, limits.stagedLimit),
      stagedAllReduceLimit: Math.min(stagingBytes, limits.stagedAllReduceLimit),
    };
  }
  if (Number.isInteger(stagedLimit) && stagedLimit >= 0 && stagedLimit <= stagingBytes) {
    return { stagedLimit, stagedAllReduceLimit: stagedLimit };
  }
  throw new ArgumentError(
    "openWorld",
    "stagedLimit",
    `from 0 to stagingBytes (${stagingBytes})`,
    describe(stagedLimit),
  );
}
