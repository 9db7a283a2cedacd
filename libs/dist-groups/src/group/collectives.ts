import type { SharedHeap } from "@lockstep/tensor";
import { Agree } from "../collectives/agree.ts";
import { AllGather } from "../collectives/all-gather.ts";
import { AllGatherCoalesced } from "../collectives/all-gather-coalesced.ts";
import { AllReduce } from "../collectives/all-reduce.ts";
import { AllToAll } from "../collectives/all-to-all.ts";
import { Barrier } from "../collectives/barrier.ts";
import { Broadcast } from "../collectives/broadcast.ts";
import { ReadPeers } from "../collectives/read-peers.ts";
import { ReduceScatter } from "../collectives/reduce-scatter.ts";
import type { Collective, CollectiveTurn, GroupMember } from "../collectives/rounds.ts";
import { SendRecv } from "../collectives/send-recv.ts";
import { OperandTable } from "../reduction/operand-table.ts";
import type { ReduceKernels } from "../reduction/reduce.ts";
import type { Transport } from "../transport/transport.ts";
import type { CollectiveName } from "../wire/collective-header.ts";

/** Every collective of one rank in one group. */
export type Collectives = ReturnType<typeof openCollectives>;

/** The table of collectives, which a blocking and an asynchronous driver call. `heap` is the rank's memory. */
export function openCollectives(run: CollectiveTurn, transport: Transport, kernels: ReduceKernels, heap: SharedHeap) {
  const { words, operandTable } = transport;
  const table = new OperandTable(kernels, words, operandTable, transport.addressOf(operandTable));
  const member: GroupMember = { run, transport, table, kernels, heap };
  return {
    barrier: new Barrier(member),
    allGather: new AllGather(member),
    allGatherCoalesced: new AllGatherCoalesced(member),
    reduceScatter: new ReduceScatter(member),
    allReduce: new AllReduce(member),
    allToAll: new AllToAll(member),
    broadcast: new Broadcast(member),
    sendRecv: new SendRecv(member),
    agree: new Agree(member),
    readPeers: new ReadPeers(member),
  } satisfies Readonly<Record<CollectiveName, Collective>>;
}
