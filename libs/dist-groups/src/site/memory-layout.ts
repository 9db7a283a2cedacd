import { ArgumentError, describe } from "@lockstep/tensor";
import type { MemoryRange } from "../rank/rank-place.ts";

const PAGE_BYTES = 65536;
const LINE_BYTES = 128;
/** Most that one WebAssembly memory holds. */
const MOST_MEMORY_BYTES = 65535 * PAGE_BYTES;
const DEFAULT_HEAP_BYTES = 256 * 2 ** 20;

/**
 * Bytes of a world's memory that are neither the host's heap nor a rank's: address space for control blocks, about
 * thirty groups of all ranks. Becomes resident only where groups use it.
 * @param size ranks of the world
 */
export function controlBytes(size: number): number {
  return (16 + 4 * size) * 2 ** 20;
}

/** How a world's one shared memory is divided: control blocks, then the host's range, then one range per rank. */
export interface MemoryLayout {
  readonly control: MemoryRange;
  readonly host: MemoryRange;
  readonly ranks: readonly MemoryRange[];
  readonly totalBytes: number;
}

/** Lays out the memory of a world. Without a wish, a range has 256 MiB, or less when many ranks share 4 GiB. */
export function memoryLayout(size: number, heapBytesPerRank?: number, heapBytesHost?: number): MemoryLayout {
  const available = MOST_MEMORY_BYTES - LINE_BYTES - controlBytes(size);
  const share = Math.min(DEFAULT_HEAP_BYTES, Math.floor(available / (size + 1)));
  const perRank = wholeLines("heapBytesPerRank", heapBytesPerRank ?? share);
  const host = wholeLines("heapBytesHost", heapBytesHost ?? Math.min(share, perRank));
  const mostHost = available - size * LINE_BYTES;
  if (host > mostHost) {
    const expected = `at most ${mostHost} (one WebAssembly memory holds 4 GiB)`;
    throw new ArgumentError("openWorld", "heapBytesHost", expected, describe(heapBytesHost ?? host));
  }
  if (size * perRank + host > available) {
    throw new ArgumentError(
      "openWorld",
      "heapBytesPerRank",
      `at most ${Math.floor((available - host) / size)} for ${size} ranks (one WebAssembly memory holds 4 GiB)`,
      describe(heapBytesPerRank ?? perRank),
    );
  }
  const control = { start: LINE_BYTES, bytes: controlBytes(size) };
  const hostStart = control.start + control.bytes;
  const ranksStart = hostStart + host;
  return {
    control,
    host: { start: hostStart, bytes: host },
    ranks: Array.from({ length: size }, (_, rank) => ({ start: ranksStart + rank * perRank, bytes: perRank })),
    totalBytes: ranksStart + size * perRank,
  };
}

function wholeLines(argument: string, bytes: number): number {
  if (!Number.isInteger(bytes) || bytes < LINE_BYTES) {
    throw new ArgumentError("openWorld", argument, `an integer of at least ${LINE_BYTES}`, describe(bytes));
  }
  return Math.floor(bytes / LINE_BYTES) * LINE_BYTES;
}
