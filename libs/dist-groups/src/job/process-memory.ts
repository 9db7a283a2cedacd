// The memory of one process of a job: what its ranks share. Everything in it is address space until it is used.
//
//   clock line         the coarse clock, raised by the process's main thread
//   directories        one flight directory per rank of the process
//   blocks             what ranks of the process tell each other, by group; as large in every process of a world
//   host               the user's heap, in the leader's process
//   rooms, heaps       per rank: the transport's part, which also takes slices of peers' tensors; and the rank's heap

import { ArgumentError, describe, SharedHeap } from "@lockstep/tensor";
import type { MemoryRange } from "../rank/rank-place.ts";
import { FLIGHT_DIRECTORY_BYTES } from "../transport/mpi/flight-directory.ts";

const LINE_BYTES = 128;
const MEBI = 2 ** 20;
/** Most that one WebAssembly memory holds, but for its first line. */
const MOST_BYTES = 65535 * 65536 - LINE_BYTES;
const DEFAULT_HEAP_BYTES = 256 * MEBI;
/** Most that is kept free for slices of peers' tensors, per rank, and the least with which a world is opened. */
const MOST_LANDING_BYTES = 256 * MEBI;
const LEAST_LANDING_BYTES = 32 * MEBI;

const wholeLines = (bytes: number): number => Math.floor(bytes / LINE_BYTES) * LINE_BYTES;

/** Bytes of what a rank gets announced, or of the blocks of groups: about eight groups of all ranks. */
function announcementBytes(size: number): number {
  return (8 + 2 * size) * MEBI;
}

function fixedBytes(size: number, workers: number): number {
  const announcements = announcementBytes(size);
  return LINE_BYTES + announcements + workers * (FLIGHT_DIRECTORY_BYTES + LINE_BYTES + announcements);
}

/**
 * Bytes of the memory of a process of `workers` ranks of a world of `size`, at least, that are neither the host's heap
 * nor that of a rank.
 */
export function processControlBytes(size: number, workers: number): number {
  return fixedBytes(size, workers) + workers * LEAST_LANDING_BYTES;
}

export interface ProcessMemory {
  readonly heap: SharedHeap;
  readonly clockOffset: number;
  /** By worker: its flight directory, its transport's part, and its heap. */
  readonly directories: readonly number[];
  readonly rooms: readonly MemoryRange[];
  readonly heaps: readonly MemoryRange[];
}

/** How the memory of a process is divided. */
interface Division {
  readonly host: number;
  readonly heap: number;
  readonly room: number;
  readonly blocks: number;
}

/**
 * Divides the memory of a process of `workers` ranks of a world of `size`.
 * @throws ArgumentError when the heaps do not fit
 */
export function divideMemory(
  size: number,
  workers: number,
  heapBytesPerRank: number | undefined,
  heapBytesHost: number | undefined,
): Division {
  const available = MOST_BYTES - fixedBytes(size, workers);
  const share = Math.floor(available / (2 * workers + 1));
  const heap = heapBytesPerRank ?? Math.min(DEFAULT_HEAP_BYTES, share);
  const host = heapBytesHost ?? Math.min(DEFAULT_HEAP_BYTES, share, heap);
  for (const [name, bytes] of Object.entries({ heapBytesPerRank: heap, heapBytesHost: host })) {
    if (Number.isInteger(bytes) && bytes >= LINE_BYTES) continue;
    throw new ArgumentError("openWorld", name, `an integer of at least ${LINE_BYTES}`, describe(bytes));
  }
  const landing = Math.min(MOST_LANDING_BYTES, Math.floor((available - host) / workers) - heap);
  if (landing < LEAST_LANDING_BYTES) {
    const most = Math.floor((available - host) / workers) - LEAST_LANDING_BYTES;
    const expected = `at most ${most} for ${workers} ranks of one process (one WebAssembly memory holds 4 GiB)`;
    throw new ArgumentError("openWorld", "heapBytesPerRank", expected, describe(heap));
  }
  const announcements = announcementBytes(size);
  return {
    host: wholeLines(host),
    heap: wholeLines(heap),
    room: wholeLines(announcements + landing),
    blocks: announcements,
  };
}

/** Makes the memory of a process. */
export function openProcessMemory(
  workers: number,
  { host, heap, room, blocks }: Division,
): {
  readonly memory: ProcessMemory;
  readonly host: SharedHeap;
  readonly blocks: SharedHeap;
} {
  const directories = 2 * LINE_BYTES;
  const blocksStart = directories + workers * FLIGHT_DIRECTORY_BYTES;
  const hostStart = blocksStart + blocks;
  const ranksStart = hostStart + host;
  const each = Array.from({ length: workers }, (_, worker) => worker);
  const whole = SharedHeap.create(ranksStart + workers * (room + heap) + LINE_BYTES);
  const roomStart = (worker: number): number => ranksStart + worker * (room + heap);
  return {
    memory: {
      heap: whole,
      clockOffset: LINE_BYTES,
      directories: each.map((worker) => directories + worker * FLIGHT_DIRECTORY_BYTES),
      rooms: each.map((worker) => ({ start: roomStart(worker), bytes: room })),
      heaps: each.map((worker) => ({ start: roomStart(worker) + room, bytes: heap })),
    },
    host: SharedHeap.range(whole.id, whole.memory, hostStart, host),
    blocks: SharedHeap.range(whole.id, whole.memory, blocksStart, blocks, true),
  };
}
