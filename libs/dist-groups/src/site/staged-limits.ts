import { ArgumentError, describe } from "@lockstep/tensor";
import { AllToAll } from "../collectives/all-to-all.ts";

/** Bytes of a staging area. */
export const DEFAULT_STAGING_BYTES = 64 * 1024;
/** Largest staged messages, in bytes that a rank brings. */
export interface StagedLimits {
  readonly stagedLimit: number;
  /** Of an all-reduce, which stages n times the arithmetic of a direct one. */
  readonly stagedAllReduceLimit: number;
}

/**
 * The defaults of ranks that share memory, measured by `bun bench/staging.ts`. With a core per rank a round costs a
 * tenth of a microsecond, and staging pays for itself only while copying is about as cheap; with more ranks than cores
 * a round costs some switches of threads.
 */
export function limitsInSharedMemory(ranks: number, cores: number): StagedLimits {
  if (ranks > cores) return { stagedLimit: DEFAULT_STAGING_BYTES, stagedAllReduceLimit: DEFAULT_STAGING_BYTES };
  return { stagedLimit: 8 * 1024, stagedAllReduceLimit: 2 * 1024 };
}

/**
 * The defaults over MPI, measured by `bun run bench:mpi`. A message that is not staged takes a round more, and is
 * copied twice less.
 */
export const LIMITS_OVER_MPI: StagedLimits = { stagedLimit: 16 * 1024, stagedAllReduceLimit: 16 * 1024 };

/**
 * Throws unless a staging area of this size is made of whole steps, holds the tensor records of an all-to-all of `size`
 * ranks, and is no larger than `mostBytes`.
 */
export function checkStagingBytes(stagingBytes: number, size: number, stepBytes: number, mostBytes: number): void {
  const least = Math.ceil(AllToAll.recordBytes(size) / stepBytes) * stepBytes;
  const isWhole = Number.isInteger(stagingBytes) && stagingBytes % stepBytes === 0;
  if (isWhole && stagingBytes >= least && stagingBytes <= mostBytes) return;
  const expected = `a multiple of ${stepBytes}, from ${least} to ${mostBytes}`;
  throw new ArgumentError("openWorld", "stagingBytes", expected, describe(stagingBytes));
}

/** The limits that `stagedLimit` asks for, or else those that are given, as far as they fit a staging area. */
export function chooseStagedLimits(
  stagedLimit: number | undefined,
  stagingBytes: number,
  limits: StagedLimits,
): StagedLimits {
  if (stagedLimit === undefined) {
    return {
      stagedLimit: Math.min(stagingBytes, limits.stagedLimit),
      stagedAllReduceLimit: Math.min(stagingBytes, limits.stagedAllReduceLimit),
    };
  }
  if (Number.isInteger(stagedLimit) && stagedLimit >= 0 && stagedLimit <= stagingBytes) {
    return { stagedLimit, stagedAllReduceLimit: stagedLimit };
  }
  throw new ArgumentError(
    "openWorld",
    "stagedLimit",
    `from 0 to stagingBytes (${stagingBytes})`,
    describe(stagedLimit),
  );
}
