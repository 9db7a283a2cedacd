import { ArgumentError, describe, type SharedHeap } from "@lockstep/tensor";
import { AllToAll } from "../collectives/all-to-all.ts";
import { readGroupFlight } from "../flight-record/flight-record.ts";
import type { FlightRecord } from "../wire/flight-types.ts";
import { type ControlBlockLayout, controlBlockLayout, LINE_WORDS } from "../transport/shared-memory/control-block.ts";
import type { GroupDescriptor } from "../rank/rank-protocol.ts";
import { abortGroup, isAborted } from "../transport/shared-memory/group-abort.ts";

/** Bytes of a staging area. */
export const DEFAULT_STAGING_BYTES = 64 * 1024;
/** Largest staged messages, in bytes that a rank brings. */
export interface StagedLimits {
  readonly stagedLimit: number;
  /** Of an all-reduce, which stages n times the arithmetic of a direct one. */
  readonly stagedAllReduceLimit: number;
}

/**
 * The defaults, measured by `bun bench/staging.ts`. With a core per rank a round costs a tenth of a microsecond, and staging pays
 * for itself only while copying is about as cheap; with more ranks than cores a round costs some switches of threads.
 */
function defaultStagedLimits(ranks: number, cores: number): StagedLimits {
  if (ranks > cores) return { stagedLimit: DEFAULT_STAGING_BYTES, stagedAllReduceLimit: DEFAULT_STAGING_BYTES };
  return { stagedLimit: 8 * 1024, stagedAllReduceLimit: 2 * 1024 };
}

interface RegisteredGroup {
  readonly descriptor: GroupDescriptor;
  readonly layout: ControlBlockLayout;
  readonly words: Int32Array;
}

/** The host's knowledge of all groups: who is in them, and where their control blocks lie. */
export class GroupRegistry {
  readonly #heap: SharedHeap;
  readonly #deadlineMs: number;
  readonly #stagingBytes: number;
  readonly #stagedLimits: StagedLimits;
  readonly #initialProgress: number;
  readonly #groups = new Set<RegisteredGroup>();
  #nextGeneration = 1;

  /** `heap` is the range of the memory that control blocks are taken from. */
  constructor(
    heap: SharedHeap,
    deadlineMs: number,
    stagingBytes: number,
    stagedLimits: StagedLimits,
    initialProgress: number,
  ) {
    this.#heap = heap;
    this.#deadlineMs = deadlineMs;
    this.#stagingBytes = stagingBytes;
    this.#stagedLimits = stagedLimits;
    this.#initialProgress = initialProgress;
  }

  /** Allocates and clears the control block of a new group. */
  create(name: string, ranks: readonly number[]): GroupDescriptor {
    const layout = controlBlockLayout(ranks.length, this.#stagingBytes);
    const byteOffset = this.#heap.allocate(layout.totalWords * 4);
    const words = new Int32Array(this.#heap.buffer, byteOffset, layout.totalWords);
    // Staging areas and flight rings need no clearing, and stay out of resident memory until used.
    words.fill(0, 0, layout.staging(0, 0));
    for (let rank = 0; rank < ranks.length; rank++) {
      words[layout.progressWord(rank)] = this.#initialProgress;
      words[layout.flightRing(rank)] = 0;
    }
    const descriptor: GroupDescriptor = {
      name,
      generation: this.#nextGeneration++,
      ranks: [...ranks],
      byteOffset,
      stagingBytes: this.#stagingBytes,
      ...this.#stagedLimits,
      initialProgress: this.#initialProgress,
      deadlineMs: this.#deadlineMs,
    };
    this.#groups.add({ descriptor, layout, words });
    return descriptor;
  }

  /** Gives a group's control block back. Only when every rank of it has retired it. */
  release(descriptor: GroupDescriptor): void {
    for (const group of this.#groups) {
      if (group.descriptor !== descriptor) continue;
      this.#groups.delete(group);
      this.#heap.release(descriptor.byteOffset);
    }
  }

  /** Groups called `name` that have a rank in common with `ranks`. */
  named(name: string, ranks: readonly number[]): readonly GroupDescriptor[] {
    return [...this.#groups]
      .map(({ descriptor }) => descriptor)
      .filter((descriptor) => descriptor.name === name && descriptor.ranks.some((rank) => ranks.includes(rank)));
  }

  /** Groups that `rank` belongs to. */
  of(rank: number): readonly GroupDescriptor[] {
    return [...this.#groups].map(({ descriptor }) => descriptor).filter(({ ranks }) => ranks.includes(rank));
  }

  /** What every group's ranks have done of late. */
  flightRecord(takenAtMs: number): FlightRecord {
    const groups = [...this.#groups].map(({ descriptor, layout, words }) =>
      readGroupFlight(descriptor, words, layout.flightRing),
    );
    return { takenAtMs, groups };
  }

  isAborted(descriptor: GroupDescriptor): boolean {
    return [...this.#groups].some((group) => group.descriptor === descriptor && isAborted(group.words, group.layout));
  }

  /** Aborts one group. */
  abortGroup(descriptor: GroupDescriptor, cause: Error): void {
    for (const { descriptor: other, layout, words } of this.#groups) {
      if (other === descriptor) abortGroup(words, layout, layout.size, cause);
    }
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
    for (const { descriptor, layout, words } of this.#groups) {
      if (descriptor.ranks.some((rank) => hit.has(rank))) abortGroup(words, layout, layout.size, cause);
    }
  }
}

/**
 * Throws unless a staging area of this size is made of lines, holds the tensor records of an all-to-all, and the control block of
 * all ranks fits the `available` bytes.
 */
export function checkStagingBytes(stagingBytes: number, size: number, available: number): void {
  const line = LINE_WORDS * 4;
  const least = Math.ceil(AllToAll.recordBytes(size) / line) * line;
  const fixed = controlBlockLayout(size, 0).totalWords * 4 + line;
  const most = Math.floor((available - fixed) / (2 * size * line)) * line;
  if (Number.isInteger(stagingBytes) && stagingBytes % line === 0 && stagingBytes >= least && stagingBytes <= most)
    return;
  const expected = `a multiple of ${line}, from ${least} to ${most}`;
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
