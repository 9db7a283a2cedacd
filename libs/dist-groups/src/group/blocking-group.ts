import type { SharedHeap, Tensor } from "@lockstep/tensor";
import type { AgreedFields } from "../collectives/agreed-options.ts";
import type {
  CollectiveOptions,
  DimOptions,
  GatherOptions,
  ReadOptions,
  ReductionOptions,
} from "../collectives/options.ts";
import type { ReduceKernels } from "../reduction/reduce.ts";
import type { Transport } from "../transport/transport.ts";
import { asyncGroup } from "./async-group.ts";
import type { CollectiveRun } from "./collective-run.ts";
import { type Collectives, openCollectives } from "./collectives.ts";
import type { AsyncProcessGroup, GroupCounters, ProcessGroup } from "./process-group.ts";

/**
 * The collectives of one rank in one group, as blocking calls. Every method names its collective, so that each call
 * goes straight to it: one loop over the table would make all of them calls of whatever comes.
 */
export class BlockingGroup implements ProcessGroup {
  readonly name: string;
  readonly rank: number;
  readonly size: number;
  readonly ranks: readonly number[];
  readonly sharesMemory: boolean;
  readonly counters: GroupCounters;
  readonly async: AsyncProcessGroup;
  readonly #run: CollectiveRun;
  readonly #collectives: Collectives;

  /** `heap` is the rank's memory, in which its tensors lie. */
  constructor(run: CollectiveRun, transport: Transport, kernels: ReduceKernels, heap: SharedHeap) {
    this.#run = run;
    this.name = run.name;
    this.rank = run.rank;
    this.size = run.size;
    this.ranks = run.ranks;
    this.sharesMemory = run.size === 1 || transport.slices === undefined;
    this.counters = run.counters;
    this.#collectives = openCollectives(run, transport, kernels, heap);
    this.async = asyncGroup(run, this.#collectives);
  }

  get isAborted(): boolean {
    return this.#run.isAborted;
  }

  allGather(input: Tensor, output: Tensor, options?: GatherOptions): void {
    const { allGather } = this.#collectives;
    allGather.prepare(input, output, options);
    this.#run.drive(allGather);
  }

  allGatherCoalesced(inputs: readonly Tensor[], outputs: readonly Tensor[], options?: DimOptions): void {
    const { allGatherCoalesced } = this.#collectives;
    allGatherCoalesced.prepare(inputs, outputs, options);
    this.#run.drive(allGatherCoalesced);
  }

  reduceScatter(input: Tensor, output: Tensor, options?: DimOptions & ReductionOptions): void {
    const { reduceScatter } = this.#collectives;
    reduceScatter.prepare(input, output, options);
    this.#run.drive(reduceScatter);
  }

  allReduce(input: Tensor, output: Tensor, options?: ReductionOptions): void {
    const { allReduce } = this.#collectives;
    allReduce.prepare(input, output, options);
    this.#run.drive(allReduce);
  }

  allToAll(inputs: readonly Tensor[], outputs: readonly Tensor[], options?: CollectiveOptions): void {
    const { allToAll } = this.#collectives;
    allToAll.prepare(inputs, outputs, options);
    this.#run.drive(allToAll);
  }

  broadcast(tensor: Tensor, root: number, options?: CollectiveOptions): void {
    const { broadcast } = this.#collectives;
    broadcast.prepare(tensor, root, options);
    this.#run.drive(broadcast);
  }

  sendRecv(
    send: Tensor | undefined,
    to: number,
    receive: Tensor | undefined,
    from: number,
    options?: CollectiveOptions,
  ): void {
    const { sendRecv } = this.#collectives;
    sendRecv.prepare(send, to, receive, from, options);
    this.#run.drive(sendRecv);
  }

  barrier(options?: CollectiveOptions): void {
    const { barrier } = this.#collectives;
    barrier.prepare(options);
    this.#run.drive(barrier);
  }

  agree(what: string, fields: AgreedFields, options?: CollectiveOptions): void {
    const { agree } = this.#collectives;
    agree.prepare(what, fields, options);
    this.#run.drive(agree);
    agree.result();
  }

  readPeers<T>(own: readonly Tensor[], read: (tensors: readonly (readonly Tensor[])[]) => T, options?: ReadOptions): T {
    const { readPeers } = this.#collectives;
    readPeers.prepare(own, read, options);
    this.#run.drive(readPeers);
    return readPeers.result() as T;
  }
}
