import type { Tensor } from "@lockstep/tensor";
import type { AgreedFields } from "../collectives/agreed-options.ts";
import type {
  CollectiveOptions,
  DimOptions,
  GatherOptions,
  ReadOptions,
  ReductionOptions,
} from "../collectives/options.ts";
import type { CollectiveName } from "../wire/collective-header.ts";

/** What a group has done on this rank so far. */
export interface GroupCounters {
  /** Collectives that completed. */
  readonly ops: number;
  /** Bytes that came from peers. */
  readonly bytesReceived: number;
  /** Milliseconds spent waiting for peers, parked or yielding. Waits short enough to spin through are not counted. */
  readonly waitMs: number;
}

/**
 * An ordered group of ranks, as one of them sees it. Collectives are blocking calls: every rank of the group makes the
 * same calls in the same order, and a call returns when this rank's outputs are complete and its inputs may be changed.
 *
 * Tensors lie in the memory of the rank's `heap` and may be strided views of at most 8 dimensions. Every wait is
 * bounded by a deadline. Errors, on every rank concerned:
 * - `ArgumentError`: this rank's arguments are wrong; nothing was published;
 * - `CollectiveMismatch`: the ranks disagree about what to do; nothing was moved;
 * - `CollectiveTimeout`: some ranks did not come before the deadline;
 * - `GroupAborted`: a rank failed, or the group was aborted before;
 * - `ResourceClosed`: the host closed the group before.
 * After any but the first the group stays aborted.
 */
export interface ProcessGroup {
  /** As it was created under. */
  readonly name: string;
  /** This rank's place in the group. */
  readonly rank: number;
  /** Number of its ranks. */
  readonly size: number;
  /** Global ranks, in group order. */
  readonly ranks: readonly number[];
  /**
   * Whether all its ranks share one memory: then {@link readPeers} shows their tensors where they lie. Else what ranks
   * read of each other is copied to them first.
   */
  readonly sharesMemory: boolean;
  /** What went through the group on this rank since it was made. */
  readonly counters: GroupCounters;
  /**
   * True once the group is aborted or closed: its collectives throw `GroupAborted` or `ResourceClosed`, and
   * `context.group(name)` may have a new one.
   */
  readonly isAborted: boolean;
  /** The same collectives for callers whose event loop must keep turning. */
  readonly async: AsyncProcessGroup;

  /**
   * Gathers chunks along dimension `dim` (default 0; negative counts from the end). With L = output.shape[dim], rank
   * r's input is chunk [floor(L*r/n), floor(L*(r+1)/n)) of the output. Any dtype. `input` may be exactly this rank's
   * chunk of `output`, and must not overlap it otherwise. With the option `read` large chunks are shown where they lie
   * instead of being copied.
   */
  allGather(input: Tensor, output: Tensor, options?: GatherOptions): void;

  /**
   * Several all-gathers in one synchronisation, such as of partial outputs and their LSEs: for every i what
   * {@link allGather} of inputs[i] into outputs[i] along `dim` does. Pairs may differ in shape and dtype; an output
   * overlaps no other tensor. Source: PyTorch's `all_gather_into_tensor_coalesced`.
   */
  allGatherCoalesced(inputs: readonly Tensor[], outputs: readonly Tensor[], options?: DimOptions): void;

  /**
   * Reduces all inputs and leaves rank r with chunk [floor(L*r/n), floor(L*(r+1)/n)) of dimension `dim` (default 0),
   * where L = input.shape[dim]. The fold goes in rank order, seeded with rank 0's value; f16 and bf16 fold in f32 and
   * round once; integer sums wrap. `output` may be exactly this rank's chunk of `input`, and must not overlap it
   * otherwise.
   */
  reduceScatter(input: Tensor, output: Tensor, options?: DimOptions & ReductionOptions): void;

  /** Reduces all inputs, in the order of {@link reduceScatter}, into every rank's output. `output` may be `input`. */
  allReduce(input: Tensor, output: Tensor, options?: ReductionOptions): void;

  /**
   * inputs[p] goes to rank p's outputs[this rank]. One tensor per rank of the group, this one included. The two tensors
   * of a pair have the same shape and dtype; pairs may differ. Outputs overlap neither inputs nor each other.
   */
  allToAll(inputs: readonly Tensor[], outputs: readonly Tensor[], options?: CollectiveOptions): void;

  /** Gives every rank the elements of rank `root` (a place in the group). Same shape and dtype everywhere. */
  broadcast(tensor: Tensor, root: number, options?: CollectiveOptions): void;

  /**
   * Sends `send` to rank `to` and receives `receive` from rank `from` (places in the group; `undefined` for nothing to
   * send or to receive, whose rank is then ignored). Every rank of the group calls it, those that do neither too: make
   * a group of two for a conversation of two. The two tensors of a transfer have the same shape and dtype, may be
   * strided, and do not overlap. A rank that sends to one that does not expect it is a `CollectiveMismatch`.
   */
  sendRecv(
    send: Tensor | undefined,
    to: number,
    receive: Tensor | undefined,
    from: number,
    options?: CollectiveOptions,
  ): void;

  /** Returns when every rank has called it. */
  barrier(options?: CollectiveOptions): void;

  /**
   * Returns when every rank has called it with the same `what` and `fields`; for options that change meaning but no
   * collective's shape. `what` says what is being opened, such as `DcpAttention.open`. A field that is `undefined` is
   * one that is not given; the order of fields does not matter; -0 is not 0, and NaN is NaN. At most 16 KiB of text in
   * all.
   *
   * Throws {@link OptionsDisagree} on every rank when a field differs, with every option, rank and value. The group
   * goes on.
   */
  agree(what: string, fields: AgreedFields, options?: CollectiveOptions): void;

  /**
   * Publishes this rank's tensors and calls `read` with every rank's, in rank order, this rank's included. No byte is
   * copied where the ranks share a memory; elsewhere all of every tensor travels to every rank first, or with the
   * option `dim` its chunk of each. Every rank publishes the same number of tensors; their shapes and dtypes may differ. Until
   * the call returns nobody may write to a published tensor; after it nobody may use the views. `read` must be
   * synchronous.
   * `bytesRead` is what `read` takes from peers, for the counters.
   */
  readPeers<T>(own: readonly Tensor[], read: (tensors: readonly (readonly Tensor[])[]) => T, options?: ReadOptions): T;
}

/** Every collective but readPeers, which returns what its callback does. */
type Promised = {
  readonly [Name in Exclude<CollectiveName, "readPeers">]: (...args: Parameters<ProcessGroup[Name]>) => Promise<void>;
};

/**
 * The collectives of a {@link ProcessGroup} as promises: while a call waits for its peers, the rank's event loop keeps
 * turning (timers, messages, GPU callbacks). Arguments, results, deadlines and errors are those of the blocking forms,
 * and a peer may use either form. Data still moves in one go when all have come.
 *
 * One collective of a group at a time: until the promise settles, tensors must not be touched, and another collective
 * of the same group on this rank is a `ReentrantCollective`. A wake-up costs an event-loop turn, 10 to 30 us instead of
 * a fraction of one: use the blocking forms unless something else has to run.
 */
export interface AsyncProcessGroup extends Promised {
  /** `read` stays synchronous. */
  readPeers<T>(
    own: readonly Tensor[],
    read: (tensors: readonly (readonly Tensor[])[]) => T,
    options?: ReadOptions,
  ): Promise<T>;
}
