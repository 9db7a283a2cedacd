import type { SharedHeap, Tensor } from "@lockstep/tensor";
import type { CollectiveOptions, ProcessGroup } from "./process-group.ts";
import { OperandTable } from "../reduction/operand-table.ts";
import type { ReduceKernels } from "../reduction/reduce.ts";
import type { Transport } from "../transport/transport.ts";
import { Agree } from "../collectives/agree.ts";
import { type AgreedFields, agreedText } from "../collectives/agreed-options.ts";
import { AllGather } from "../collectives/all-gather.ts";
import { AllGatherCoalesced } from "../collectives/all-gather-coalesced.ts";
import { AllReduce } from "../collectives/all-reduce.ts";
import { AllToAll } from "../collectives/all-to-all.ts";
import { checkAllLive, checkDimNumber, checkLive, checkOptions, checkReductionName } from "../collectives/arguments.ts";
import { Barrier } from "../collectives/barrier.ts";
import { Broadcast } from "../collectives/broadcast.ts";
import { ReadPeers } from "../collectives/read-peers.ts";
import { ReduceScatter } from "../collectives/reduce-scatter.ts";
import type { CollectiveTurn, GroupMember, Rounds } from "../collectives/rounds.ts";
import { SendRecv } from "../collectives/send-recv.ts";

/**
 * Every collective of one rank in one group, up to the point where its header and staging area are filled: arguments are checked, the collective
 * has begun, nothing is published. What comes back is driven by a blocking or an asynchronous caller.
 */
export class PreparedCollectives {
  readonly #agree: Agree;
  readonly #barrier: Barrier;
  readonly #allGather: AllGather;
  readonly #allGatherCoalesced: AllGatherCoalesced;
  readonly #reduceScatter: ReduceScatter;
  readonly #allReduce: AllReduce;
  readonly #allToAll: AllToAll;
  readonly #broadcast: Broadcast;
  readonly #sendRecv: SendRecv;
  readonly #readPeers: ReadPeers;

  constructor(run: CollectiveTurn, transport: Transport, kernels: ReduceKernels, heap: SharedHeap) {
    const { words, operandTable } = transport;
    const table = new OperandTable(kernels, words, operandTable, transport.addressOf(operandTable));
    const member: GroupMember = { run, transport, table, kernels, heap };
    this.#agree = new Agree(member);
    this.#barrier = new Barrier(member);
    this.#allGather = new AllGather(member);
    this.#allGatherCoalesced = new AllGatherCoalesced(member);
    this.#reduceScatter = new ReduceScatter(member);
    this.#allReduce = new AllReduce(member);
    this.#allToAll = new AllToAll(member);
    this.#broadcast = new Broadcast(member);
    this.#sendRecv = new SendRecv(member);
    this.#readPeers = new ReadPeers(member);
  }

  allGather(input: Tensor, output: Tensor, options: Parameters<ProcessGroup["allGather"]>[2]): Rounds {
    checkOptions("allGather", options);
    const dim = options?.dim ?? 0;
    checkDimNumber("allGather", dim);
    checkLive("allGather", "input", input);
    checkLive("allGather", "output", output);
    this.#allGather.prepare(input, output, dim, options?.deadlineMs);
    return this.#allGather;
  }

  allGatherCoalesced(
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    options: Parameters<ProcessGroup["allGatherCoalesced"]>[2],
  ): Rounds {
    checkOptions("allGatherCoalesced", options);
    const dim = options?.dim ?? 0;
    checkDimNumber("allGatherCoalesced", dim);
    checkAllLive("allGatherCoalesced", "inputs", inputs);
    checkAllLive("allGatherCoalesced", "outputs", outputs);
    this.#allGatherCoalesced.prepare(inputs, outputs, dim, options?.deadlineMs);
    return this.#allGatherCoalesced;
  }

  reduceScatter(input: Tensor, output: Tensor, options: Parameters<ProcessGroup["reduceScatter"]>[2]): Rounds {
    checkOptions("reduceScatter", options);
    const dim = options?.dim ?? 0;
    const op = options?.op ?? "sum";
    checkDimNumber("reduceScatter", dim);
    checkReductionName("reduceScatter", op);
    checkLive("reduceScatter", "input", input);
    checkLive("reduceScatter", "output", output);
    this.#reduceScatter.prepare(input, output, dim, op, options?.deadlineMs);
    return this.#reduceScatter;
  }

  allReduce(input: Tensor, output: Tensor, options: Parameters<ProcessGroup["allReduce"]>[2]): Rounds {
    checkOptions("allReduce", options);
    const op = options?.op ?? "sum";
    checkReductionName("allReduce", op);
    checkLive("allReduce", "input", input);
    checkLive("allReduce", "output", output);
    this.#allReduce.prepare(input, output, op, options?.deadlineMs);
    return this.#allReduce;
  }

  allToAll(inputs: readonly Tensor[], outputs: readonly Tensor[], options: CollectiveOptions | undefined): Rounds {
    checkOptions("allToAll", options);
    checkAllLive("allToAll", "inputs", inputs);
    checkAllLive("allToAll", "outputs", outputs);
    this.#allToAll.prepare(inputs, outputs, options?.deadlineMs);
    return this.#allToAll;
  }

  broadcast(tensor: Tensor, root: number, options: CollectiveOptions | undefined): Rounds {
    checkOptions("broadcast", options);
    this.#broadcast.prepare(tensor, root, options?.deadlineMs);
    return this.#broadcast;
  }

  sendRecv(
    send: Tensor | undefined,
    to: number,
    receive: Tensor | undefined,
    from: number,
    options: CollectiveOptions | undefined,
  ): Rounds {
    checkOptions("sendRecv", options);
    this.#sendRecv.prepare(send, to, receive, from, options?.deadlineMs);
    return this.#sendRecv;
  }

  barrier(options: CollectiveOptions | undefined): Rounds {
    checkOptions("barrier", options);
    this.#barrier.prepare(options?.deadlineMs);
    return this.#barrier;
  }

  agree(what: string, fields: AgreedFields, options: CollectiveOptions | undefined): Agree {
    checkOptions("agree", options);
    this.#agree.prepare(agreedText(what, fields), options?.deadlineMs);
    return this.#agree;
  }

  readPeers(
    own: readonly Tensor[],
    read: (tensors: readonly (readonly Tensor[])[]) => unknown,
    options: Parameters<ProcessGroup["readPeers"]>[2],
  ): ReadPeers {
    checkOptions("readPeers", options);
    checkAllLive("readPeers", "own", own);
    this.#readPeers.prepare(own, read, options?.bytesRead ?? 0, options?.deadlineMs);
    return this.#readPeers;
  }
}
