import { readGroupFlight } from "../flight-record/flight-record.ts";
import type { GroupDescriptor } from "../rank/rank-protocol.ts";
import type { HostGroup, HostTransport } from "../transport/world-transport.ts";
import type { FlightRecord } from "../wire/flight-types.ts";
import type { StagedLimits } from "../site/staged-limits.ts";

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
