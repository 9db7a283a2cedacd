import type { SharedHeap, Tensor } from "@lockstep/tensor";
import { type AgreedFields, throwUnlessAgreed } from "../collectives/agreed-options.ts";
import type { ReduceKernels } from "../reduction/reduce.ts";
import type { Transport } from "../transport/transport.ts";
import { AsyncGroup } from "./async-group.ts";
import type { CollectiveRun } from "./collective-run.ts";
import { PreparedCollectives } from "./prepared-collectives.ts";
import type { AsyncProcessGroup, CollectiveOptions, GroupCounters, ProcessGroup } from "./process-group.ts";

/** The collectives of one rank in one group, as blocking calls. */
export class BlockingGroup implements ProcessGroup {
  readonly name: string;
  readonly rank: number;
  readonly size: number;
  readonly ranks: readonly number[];
  readonly counters: GroupCounters;
  readonly async: AsyncProcessGroup;
  readonly #run: CollectiveRun;
  readonly #prepared: PreparedCollectives;

  /** `heap` is the rank's memory, in which its tensors lie. */
  constructor(run: CollectiveRun, transport: Transport, kernels: ReduceKernels, heap: SharedHeap) {
    this.#run = run;
    this.name = run.name;
    this.rank = run.rank;
    this.size = run.size;
    this.ranks = run.ranks;
    this.counters = run.counters;
    this.#prepared = new PreparedCollectives(run, transport, kernels, heap);
    this.async = new AsyncGroup(run, this.#prepared);
  }

  get isAborted(): boolean {
    return this.#run.isAborted;
  }

  allGather(input: Tensor, output: Tensor, options?: Parameters<ProcessGroup["allGather"]>[2]): void {
    this.#run.drive(this.#prepared.allGather(input, output, options));
  }

  allGatherCoalesced(
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    options?: Parameters<ProcessGroup["allGatherCoalesced"]>[2],
  ): void {
    this.#run.drive(this.#prepared.allGatherCoalesced(inputs, outputs, options));
  }

  reduceScatter(input: Tensor, output: Tensor, options?: Parameters<ProcessGroup["reduceScatter"]>[2]): void {
    this.#run.drive(this.#prepared.reduceScatter(input, output, options));
  }

  allReduce(input: Tensor, output: Tensor, options?: Parameters<ProcessGroup["allReduce"]>[2]): void {
    this.#run.drive(this.#prepared.allReduce(input, output, options));
  }

  allToAll(inputs: readonly Tensor[], outputs: readonly Tensor[], options?: CollectiveOptions): void {
    this.#run.drive(this.#prepared.allToAll(inputs, outputs, options));
  }

  broadcast(tensor: Tensor, root: number, options?: CollectiveOptions): void {
    this.#run.drive(this.#prepared.broadcast(tensor, root, options));
  }

  sendRecv(
    send: Tensor | undefined,
    to: number,
    receive: Tensor | undefined,
    from: number,
    options?: CollectiveOptions,
  ): void {
    this.#run.drive(this.#prepared.sendRecv(send, to, receive, from, options));
  }

  barrier(options?: CollectiveOptions): void {
    this.#run.drive(this.#prepared.barrier(options));
  }

  agree(what: string, fields: AgreedFields, options?: CollectiveOptions): void {
    const rounds = this.#prepared.agree(what, fields, options);
    this.#run.drive(rounds);
    throwUnlessAgreed(this.name, this.ranks, rounds.takeTexts());
  }

  readPeers<T>(
    own: readonly Tensor[],
    read: (tensors: readonly (readonly Tensor[])[]) => T,
    options?: Parameters<ProcessGroup["readPeers"]>[2],
  ): T {
    const rounds = this.#prepared.readPeers(own, read, options);
    this.#run.drive(rounds);
    return rounds.takeResult() as T;
  }
}
