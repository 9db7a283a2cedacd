// A process group over a counted network, all of whose ranks are in this thread: asynchronous collectives alone.

import { SharedHeap } from "@lockstep/tensor";
import { BlockingGroup } from "../../src/group/blocking-group.ts";
import { CollectiveRun } from "../../src/group/collective-run.ts";
import type { AsyncProcessGroup } from "../../src/group/process-group.ts";
import { compileReduceKernels, instantiateReduceKernels } from "../../src/reduction/reduce.ts";
import { FLIGHT_DIRECTORY_BYTES, FlightDirectory } from "../../src/transport/mpi/flight-directory.ts";
import { type MpiPlace, MpiTransport } from "../../src/transport/mpi/mpi-transport.ts";
import { PollingWait } from "../../src/transport/mpi/polling-wait.ts";
import { heapRoom } from "../../src/transport/mpi/post.ts";
import { processBlockBytes } from "../../src/transport/mpi/process-block.ts";
import { RankMailbox } from "../../src/transport/mpi/rank-mailbox.ts";
import { dealRanks } from "../../src/transport/mpi/tags.ts";
import { CountedNetwork } from "./counted-network.ts";

const STAGING_BYTES = 4096;
const RANK_BYTES = 4 << 20;
const BLOCK_BYTES = 4 << 20;

export interface CountedRank {
  readonly process: number;
  readonly transport: MpiTransport;
  readonly mailbox: RankMailbox;
  readonly heap: SharedHeap;
  readonly group: AsyncProcessGroup;
}

export interface CountedGroup {
  readonly network: CountedNetwork;
  readonly ranks: readonly CountedRank[];
  /** Of the group's block in every process's memory. */
  readonly blocks: readonly SharedHeap[];
}

/** What joins ranks, one after the other, to a group of `size` ranks in `processes` processes. */
export async function openCountedGroup(size: number, processes: number, stagedLimit = 0): Promise<CountedGroup> {
  const homes = dealRanks(size, processes);
  const memories = Array.from({ length: processes }, () => SharedHeap.create(BLOCK_BYTES + 4 * RANK_BYTES));
  const network = new CountedNetwork(memories);
  const blocks = memories.map(({ id, memory, start }) => SharedHeap.range(id, memory, start, BLOCK_BYTES));
  const place: MpiPlace = { channel: 5, homes, stagingBytes: STAGING_BYTES, initialProgress: 7, block: 0 };
  if (processBlockBytes(homes, STAGING_BYTES) > BLOCK_BYTES) throw new Error("the block is too small for the group");
  const members = homes.map((_, rank) => rank);
  const kernels = (await compileReduceKernels()) as WebAssembly.Module;
  const settings = {
    name: "world",
    generation: 1,
    ranks: members,
    stagedLimit,
    stagedAllReduceLimit: stagedLimit,
    deadlineMs: 20_000,
  };
  const ranks = homes.map(({ process, worker }, rank): CountedRank => {
    const whole = memories[process];
    if (whole === undefined) throw new Error(`there is no process ${process}`);
    const start = whole.start + BLOCK_BYTES + worker * RANK_BYTES;
    const room = SharedHeap.range(whole.id, whole.memory, start, RANK_BYTES / 2);
    const heap = SharedHeap.range(whole.id, whole.memory, start + RANK_BYTES / 2, RANK_BYTES / 2);
    const mpi = network.attach(process);
    const mailbox = new RankMailbox(1, rank, homes, mpi, heapRoom(mpi, room));
    const directory = new FlightDirectory(whole.buffer, room.allocate(FLIGHT_DIRECTORY_BYTES));
    const waiting = new PollingWait(true);
    const endpoint = { mpi, mailbox, waiting, heap: room, directory, blocksStart: whole.start };
    const transport = new MpiTransport(place, members, rank, endpoint);
    const run = new CollectiveRun(settings, transport, { worldTime: (now) => Math.round(now), coarseTime: () => 0 });
    const reduce = instantiateReduceKernels(kernels, whole.memory as WebAssembly.Memory);
    return { process, transport, mailbox, heap, group: new BlockingGroup(run, transport, reduce, heap).async };
  });
  return { network, ranks, blocks };
}
