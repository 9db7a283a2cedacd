import type { Tensor } from "@lockstep/tensor";
import { throwUnlessAgreed } from "../collectives/agreed-options.ts";
import type { CollectiveRun } from "./collective-run.ts";
import type { PreparedCollectives } from "./prepared-collectives.ts";
import type { AsyncProcessGroup, CollectiveOptions, ProcessGroup } from "./process-group.ts";

/** The collectives of one rank in one group, as promises: the same rounds as the blocking ones. */
export class AsyncGroup implements AsyncProcessGroup {
  readonly #run: CollectiveRun;
  readonly #prepared: PreparedCollectives;

  constructor(run: CollectiveRun, prepared: PreparedCollectives) {
    this.#run = run;
    this.#prepared = prepared;
  }

  async allGather(...[input, output, options]: Parameters<ProcessGroup["allGather"]>): Promise<void> {
    await this.#run.driveAsync(this.#prepared.allGather(input, output, options));
  }

  async allGatherCoalesced(
    ...[inputs, outputs, options]: Parameters<ProcessGroup["allGatherCoalesced"]>
  ): Promise<void> {
    await this.#run.driveAsync(this.#prepared.allGatherCoalesced(inputs, outputs, options));
  }

  async reduceScatter(...[input, output, options]: Parameters<ProcessGroup["reduceScatter"]>): Promise<void> {
    await this.#run.driveAsync(this.#prepared.reduceScatter(input, output, options));
  }

  async allReduce(...[input, output, options]: Parameters<ProcessGroup["allReduce"]>): Promise<void> {
    await this.#run.driveAsync(this.#prepared.allReduce(input, output, options));
  }

  async allToAll(...[inputs, outputs, options]: Parameters<ProcessGroup["allToAll"]>): Promise<void> {
    await this.#run.driveAsync(this.#prepared.allToAll(inputs, outputs, options));
  }

  async broadcast(...[tensor, root, options]: Parameters<ProcessGroup["broadcast"]>): Promise<void> {
    await this.#run.driveAsync(this.#prepared.broadcast(tensor, root, options));
  }

  async sendRecv(...[send, to, receive, from, options]: Parameters<ProcessGroup["sendRecv"]>): Promise<void> {
    await this.#run.driveAsync(this.#prepared.sendRecv(send, to, receive, from, options));
  }

  async barrier(options?: CollectiveOptions): Promise<void> {
    await this.#run.driveAsync(this.#prepared.barrier(options));
  }

  async agree(...[what, fields, options]: Parameters<ProcessGroup["agree"]>): Promise<void> {
    const rounds = this.#prepared.agree(what, fields, options);
    await this.#run.driveAsync(rounds);
    throwUnlessAgreed(this.#run.name, this.#run.ranks, rounds.takeTexts());
  }

  async readPeers<T>(
    own: readonly Tensor[],
    read: (tensors: readonly (readonly Tensor[])[]) => T,
    options?: Parameters<ProcessGroup["readPeers"]>[2],
  ): Promise<T> {
    const rounds = this.#prepared.readPeers(own, read, options);
    await this.#run.driveAsync(rounds);
    return rounds.takeResult() as T;
  }
}
