import type { Tensor } from "@lockstep/tensor";
import { throwUnlessAgreed } from "../collectives/agreed-options.ts";
import type { PreparedCollectives } from "../collectives/prepared.ts";
import type { Rounds } from "../collectives/rounds.ts";
import type { CollectiveOptions, ProcessGroup } from "./process-group.ts";
import type { GroupChannel } from "../transport/shared-memory/group-channel.ts";

/**
 * The collectives of a {@link ProcessGroup} as promises: while a call waits for its peers, the rank's event loop keeps turning
 * (timers, messages, GPU callbacks). Arguments, results, deadlines and errors are those of the blocking forms, and a peer may
 * use either form. Data still moves in one go when all have come.
 *
 * One collective of a group at a time: until the promise settles, tensors must not be touched, and another collective of the
 * same group on this rank is a `ReentrantCollective`. A wake-up costs an event-loop turn, 10 to 30 us instead of a fraction of
 * one: use the blocking forms unless something else has to run.
 */
export interface AsyncProcessGroup {
  allGather(...args: Parameters<ProcessGroup["allGather"]>): Promise<void>;
  allGatherCoalesced(...args: Parameters<ProcessGroup["allGatherCoalesced"]>): Promise<void>;
  reduceScatter(...args: Parameters<ProcessGroup["reduceScatter"]>): Promise<void>;
  allReduce(...args: Parameters<ProcessGroup["allReduce"]>): Promise<void>;
  allToAll(...args: Parameters<ProcessGroup["allToAll"]>): Promise<void>;
  broadcast(...args: Parameters<ProcessGroup["broadcast"]>): Promise<void>;
  sendRecv(...args: Parameters<ProcessGroup["sendRecv"]>): Promise<void>;
  barrier(...args: Parameters<ProcessGroup["barrier"]>): Promise<void>;
  agree(...args: Parameters<ProcessGroup["agree"]>): Promise<void>;
  /** `read` stays synchronous. */
  readPeers<T>(
    own: readonly Tensor[],
    read: (tensors: readonly (readonly Tensor[])[]) => T,
    options?: Parameters<ProcessGroup["readPeers"]>[2],
  ): Promise<T>;
}

/** The asynchronous driver over the same rounds as the blocking one. */
export class SharedMemoryAsyncGroup implements AsyncProcessGroup {
  readonly #channel: GroupChannel;
  readonly #prepared: PreparedCollectives;

  constructor(channel: GroupChannel, prepared: PreparedCollectives) {
    this.#channel = channel;
    this.#prepared = prepared;
  }

  async allGather(...[input, output, options]: Parameters<ProcessGroup["allGather"]>): Promise<void> {
    await this.#run(this.#prepared.allGather(input, output, options));
  }

  async allGatherCoalesced(
    ...[inputs, outputs, options]: Parameters<ProcessGroup["allGatherCoalesced"]>
  ): Promise<void> {
    await this.#run(this.#prepared.allGatherCoalesced(inputs, outputs, options));
  }

  async reduceScatter(...[input, output, options]: Parameters<ProcessGroup["reduceScatter"]>): Promise<void> {
    await this.#run(this.#prepared.reduceScatter(input, output, options));
  }

  async allReduce(...[input, output, options]: Parameters<ProcessGroup["allReduce"]>): Promise<void> {
    await this.#run(this.#prepared.allReduce(input, output, options));
  }

  async allToAll(...[inputs, outputs, options]: Parameters<ProcessGroup["allToAll"]>): Promise<void> {
    await this.#run(this.#prepared.allToAll(inputs, outputs, options));
  }

  async broadcast(...[tensor, root, options]: Parameters<ProcessGroup["broadcast"]>): Promise<void> {
    await this.#run(this.#prepared.broadcast(tensor, root, options));
  }

  async sendRecv(...[send, to, receive, from, options]: Parameters<ProcessGroup["sendRecv"]>): Promise<void> {
    await this.#run(this.#prepared.sendRecv(send, to, receive, from, options));
  }

  async barrier(options?: CollectiveOptions): Promise<void> {
    await this.#run(this.#prepared.barrier(options));
  }

  async agree(...[what, fields, options]: Parameters<ProcessGroup["agree"]>): Promise<void> {
    const rounds = this.#prepared.agree(what, fields, options);
    await this.#run(rounds);
    throwUnlessAgreed(this.#channel.name, this.#channel.ranks, rounds.takeTexts());
  }

  async readPeers<T>(
    own: readonly Tensor[],
    read: (tensors: readonly (readonly Tensor[])[]) => T,
    options?: Parameters<ProcessGroup["readPeers"]>[2],
  ): Promise<T> {
    const rounds = this.#prepared.readPeers(own, read, options);
    await this.#run(rounds);
    return rounds.takeResult() as T;
  }

  async #run(rounds: Rounds): Promise<void> {
    const channel = this.#channel;
    try {
      channel.announce(rounds.bytesReceived);
      await channel.awaitPeersAsync();
      channel.checkAgreement();
      let round = 0;
      for (; rounds.advance(round); round++) {
        channel.publish();
        await channel.awaitPeersAsync();
      }
      if (round > 0) channel.throwIfAborted();
    } catch (error) {
      channel.fail(error);
      throw error;
    }
    channel.end(rounds.bytesReceived);
  }
}
