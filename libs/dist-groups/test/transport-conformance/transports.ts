// The transports that the conformance suite runs on. To add one, add it to TRANSPORTS.

import { SharedHeap } from "@lockstep/tensor";
import { toPlainError } from "../../src/errors/plain-error.ts";
import type { WorldClock } from "../../src/flight-record/flight-ring.ts";
import type { GroupSettings } from "../../src/group/group-settings.ts";
import { SharedMemoryHost, type SharedMemoryInvitation } from "../../src/transport/shared-memory/host-end.ts";
import { SharedMemoryRank } from "../../src/transport/shared-memory/rank-end.ts";
import type { Transport } from "../../src/transport/transport.ts";
import { type Frame, PipeTransport, pipeWords } from "./pipe-transport.ts";

/** What a group is made with, on every transport. */
export interface Conditions {
  readonly settings: GroupSettings;
  readonly stagingBytes: number;
  readonly heapBytesPerRank: number;
}

/** The host's end: what each rank is sent, and how ranks learn that one is gone. */
export interface HostEnd {
  /** Goes to a rank by `postMessage`, once. */
  invitation(rank: number): { readonly data: unknown; readonly transfer: readonly Transferable[] };
  /** A rank's worker is gone. */
  died(rank: number, failure: Error): void;
}

/** A rank's end. */
export interface RankEnd {
  readonly transport: Transport;
  /** Where the rank's tensors lie. */
  readonly heap: SharedHeap;
  readonly clock: WorldClock;
  /** Tells peers that this rank failed. */
  leave(failure: Error): void;
}

export interface ConformingTransport {
  readonly name: string;
  /** The ranks of each process: those that share a memory. */
  processes(ranks: readonly number[]): readonly (readonly number[])[];
  /** On the host. */
  open(conditions: Conditions): HostEnd;
  /** In a rank's worker, with what the host sent. */
  join(rank: number, conditions: Conditions, invitation: unknown): RankEnd;
}

const LINE_BYTES = 128;
const lines = (bytes: number): number => Math.ceil(bytes / LINE_BYTES) * LINE_BYTES;

/** Room for control blocks. */
const CONTROL_BYTES = 16 << 20;

interface SharedInvitation {
  readonly memory: WebAssembly.Memory;
  readonly memoryId: string;
  readonly invitation: SharedMemoryInvitation;
  readonly place: unknown;
}

const sharedMemory: ConformingTransport = {
  name: "shared memory",
  processes: (ranks) => [ranks],
  open({ settings: { ranks }, stagingBytes, heapBytesPerRank }) {
    const size = ranks.length;
    const { id: memoryId, memory } = SharedHeap.create(LINE_BYTES + CONTROL_BYTES + size * heapBytesPerRank);
    const control = SharedHeap.range(memoryId, memory, LINE_BYTES, CONTROL_BYTES);
    const host = new SharedMemoryHost(control, size, stagingBytes, 0);
    const group = host.open(ranks);
    const data: SharedInvitation = { memory, memoryId, invitation: host.invitation, place: group.place };
    return {
      invitation: () => ({ data, transfer: [] }),
      died(rank, failure) {
        host.health.exit(rank, failure);
        group.abort(failure);
      },
    };
  },
  join(rank, { settings: { ranks }, heapBytesPerRank }, data) {
    const { memory, memoryId, invitation, place } = data as SharedInvitation;
    const end = new SharedMemoryRank(rank, memory.buffer, navigator.hardwareConcurrency, invitation);
    const transport = end.join(ranks, place);
    const heapOffset = LINE_BYTES + CONTROL_BYTES + rank * heapBytesPerRank;
    return {
      transport,
      heap: SharedHeap.range(memoryId, memory, heapOffset, heapBytesPerRank),
      clock: end.health,
      leave(failure) {
        end.health.leave(rank, failure);
        transport.nudge();
      },
    };
  },
};

interface PipeInvitation {
  readonly pipes: readonly (MessagePort | undefined)[];
  readonly host: MessagePort;
}

/** Most bytes of slices that land for one collective. */
const LANDING_BYTES = 16 << 20;

class UnlandedPipe extends PipeTransport {
  protected override land(): void {}
}

class UnskippedPipe extends PipeTransport {
  override give(peer: number, record: number, axis: number, _start: number, count: number): void {
    super.give(peer, record, axis, 0, count);
  }
}

class UnstagedPipe extends PipeTransport {
  override fill(): void {}
}

const pipesOf = (name: string, Pipe: typeof PipeTransport): ConformingTransport => ({
  name,
  processes: (ranks) => ranks.map((rank) => [rank]),
  open({ settings: { ranks } }) {
    const ends: (MessagePort | undefined)[][] = ranks.map(() => []);
    const hosts = ranks.map(() => new MessageChannel());
    for (const [a] of ranks.entries()) {
      for (let b = 0; b < a; b++) {
        const { port1, port2 } = new MessageChannel();
        (ends[a] ?? [])[b] = port1;
        (ends[b] ?? [])[a] = port2;
      }
    }
    return {
      invitation(rank) {
        const host = hosts[rank]?.port2;
        const own = ranks.map((_, peer) => ends[rank]?.[peer]);
        const transfer = [...own, host].filter((port) => port !== undefined);
        return { data: { pipes: own, host }, transfer };
      },
      died(rank, failure) {
        const frame: Frame = { kind: "left", rank, failure: toPlainError(failure) };
        for (const { port1 } of hosts) port1.postMessage(frame);
      },
    };
  },
  join(rank, { settings, stagingBytes, heapBytesPerRank }, invitation) {
    const { pipes: own, host } = invitation as PipeInvitation;
    // Another place on every rank: nothing that travels may depend on where it lies.
    const roomsOffset = LINE_BYTES * (1 + rank);
    const landingsOffset = roomsOffset + lines(pipeWords(settings.ranks.length, stagingBytes) * 4);
    const heapOffset = landingsOffset + LANDING_BYTES;
    const { id, memory } = SharedHeap.create(heapOffset + heapBytesPerRank + LINE_BYTES);
    const landings = SharedHeap.range(id, memory, landingsOffset, LANDING_BYTES);
    const transport = new Pipe(rank, own, host, roomsOffset, stagingBytes, landings);
    const openedAt = performance.now();
    const worldTime = (now: number): number => Math.max(0, Math.round(now - openedAt));
    return {
      transport,
      heap: SharedHeap.range(id, memory, heapOffset, heapBytesPerRank),
      clock: { worldTime, coarseTime: () => 0 },
      leave: (failure) => transport.leave(failure),
    };
  },
});

export const TRANSPORTS: readonly ConformingTransport[] = [sharedMemory, pipesOf("pipes", PipeTransport)];

/** Broken on purpose: the suite must tell. */
export const BROKEN_TRANSPORTS: readonly ConformingTransport[] = [
  pipesOf("pipes whose slices do not land", UnlandedPipe),
  pipesOf("pipes whose slices all begin at index 0", UnskippedPipe),
  pipesOf("pipes that announce no staging area", UnstagedPipe),
];
