import type { CallOptions } from "./world-options.ts";

/** What a group of a world needs of it. */
export interface GroupOwner {
  /** Closes the groups that go back to one, and gives back what they hold; nothing when there are none. */
  closeGroup(origin: number, options?: Pick<CallOptions, "deadlineMs">): Promise<void>;
}

/**
 * A group that the host has made, as its owner: `await using pair = await world.createGroup("pair", [0, 1])`. On its
 * ranks `context.group(name)` is the group.
 */
export class WorldGroup implements AsyncDisposable {
  /** As it was created under. */
  readonly name: string;
  /** Global ranks, in group order. */
  readonly ranks: readonly number[];
  readonly #owner: GroupOwner;
  readonly #origin: number;

  /** Use `world.createGroup`. `origin`: generation of the group. */
  constructor(name: string, ranks: readonly number[], origin: number, owner: GroupOwner) {
    this.name = name;
    this.ranks = ranks;
    this.#origin = origin;
    this.#owner = owner;
  }

  /**
   * Closes the group, or the one that `renewGroups` has put in its place: collectives under way throw `GroupAborted`,
   * those to come `ResourceClosed`, `context.group(name)` no longer finds it, and its part of the memory is free again.
   * Idempotent, and nothing once the world is closed. Waits until its ranks have come out of their collectives: rejects
   * with `CallTimeout` when one does not by the deadline, and the memory is free when it has.
   */
  close(options?: Pick<CallOptions, "deadlineMs">): Promise<void> {
    return this.#owner.closeGroup(this.#origin, options);
  }

  /** What {@link WorldGroup.close} does. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
