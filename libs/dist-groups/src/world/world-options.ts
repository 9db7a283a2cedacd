import type { SharedHeap } from "@lockstep/tensor";
import type { OptionsOf, Program, UntypedProgram } from "../rank/rank-context.ts";
import type { ModuleAddress, RankWorkerSource } from "../site/worker-like.ts";
import type { AbortSignalLike } from "./abort-signal-like.ts";

/** Where the code of the ranks is: `program` or `worker`. */
export type RankCode =
  | {
      /**
       * Module that every rank runs: `new URL("./program.ts", import.meta.url)`. It exports `setup(context, options)`.
       * The workers are the library's own, which import it at run time.
       */
      readonly program: ModuleAddress;
      readonly worker?: undefined;
    }
  | {
      /**
       * Workers of your own, for bundlers, which have to see what a worker runs: the address of a module that calls
       * `runRank(program)` of `@lockstep/dist-groups/rank`, or a function that starts such a worker for a rank.
       */
      readonly worker: RankWorkerSource;
      readonly program?: undefined;
    };

/** What a world is made of. */
export type WorldOptions<P extends Program = UntypedProgram> = CommonWorldOptions<P> & RankCode;

/** A world whose ranks are about to start. */
export interface OpeningWorld {
  /** Number of ranks. */
  readonly size: number;
  /** As {@link World.heap}. */
  readonly heap: SharedHeap;
  /** As {@link World.processes}. */
  readonly processes: readonly (readonly number[])[];
}

/** What a world is made of, without where the code of the ranks is. */
export interface CommonWorldOptions<P extends Program = UntypedProgram> {
  /** Number of ranks, 1 to 255. */
  readonly size: number;
  /**
   * Given to `setup` on every rank, structured-cloned. Where ranks run in other processes too it is plain data, as
   * arguments of calls are: numbers, texts, typed arrays, maps; no memories. A function makes it, once the world's
   * memory is there: for descriptors of tensors in the host's heap, or where it matters how ranks are spread.
   */
  readonly options?: OptionsOf<P> | ((opening: OpeningWorld) => OptionsOf<P>) | undefined;
  /** Bytes of each rank's heap. Reserved, not resident. Default 256 MiB, or less when the ranks would not fit 4 GiB. */
  readonly heapBytesPerRank?: number | undefined;
  /** Bytes of the host's own heap. Default: like a rank's, at most 256 MiB. */
  readonly heapBytesHost?: number | undefined;
  /** Named partitions of the ranks: each rank finds its own group by `context.group(name)`. "world" always exists. */
  readonly groups?: Readonly<Record<string, readonly (readonly number[])[]>> | undefined;
  /** Default deadline of calls and of collectives, in milliseconds. Default 30 000. */
  readonly deadlineMs?: number | undefined;
  /** Deadline of the start: workers, program, `setup`. Default 60 000 ms. */
  readonly startDeadlineMs?: number | undefined;
  /** Gives the opening up when it fires: it fails with `CallInterrupted`, and what had started is gone. */
  readonly signal?: AbortSignalLike | undefined;
  /** How long closing waits for `onClose` callbacks. Default 5 000 ms. */
  readonly closeDeadlineMs?: number | undefined;
  /** Bytes of a staging area in a group's control block; each rank of a group has two. Default 65 536. For tuning. */
  readonly stagingBytes?: number | undefined;
  /**
   * Largest message, in bytes that a rank brings, that a collective stages in its control block instead of letting
   * peers read it where it lies; from 0 to `stagingBytes`. Default: 8 KiB (2 KiB of an all-reduce), or 64 KiB with more
   * ranks than cores; 16 KiB over MPI. For tuning: results are the same bits.
   */
  readonly stagedLimit?: number | undefined;
  /** Where progress words start counting. Default 0. For tests of their wrap-around. */
  readonly initialProgress?: number | undefined;
}

/** Options of a call. */
export interface CallOptions {
  /** Deadline in milliseconds, from when the calls before it are over. Default: the world's. */
  readonly deadlineMs?: number | undefined;
  /**
   * Gives the call up when it fires: the call rejects with `CallInterrupted`. A call that no rank has begun is
   * cancelled, and nothing else happens; of one that has begun, the groups of unfinished ranks abort (`renewGroups` is
   * the way back).
   */
  readonly signal?: AbortSignalLike | undefined;
}
