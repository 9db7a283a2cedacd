import type {
  CollectiveOptions,
  DimOptions,
  HeadRange,
  ProcessGroup,
  ReadOptions,
  ReductionOptions,
} from "@lockstep/dist-groups";
import type { KernelBackend, LseBase, NonFinite } from "@lockstep/kernels";
import type { Allocator, DType, Tensor } from "@lockstep/tensor";
import type { Combine } from "./combine.ts";
import type { PartialResults, PartialRows, PartialShape } from "./partial-memory.ts";

/** Who combines, and how LSEs and what is not finite are to be read. */
export interface CombineSetup {
  /** Computes the correction or the merge. */
  readonly backend: KernelBackend;
  readonly dcpGroup: ProcessGroup;
  readonly queryGroup: ProcessGroup;
  /** This rank's heads among the query group's. */
  readonly own: HeadRange;
  readonly base: LseBase;
  readonly nonFinite: NonFinite;
  /** Scratch memory. */
  readonly allocator: Allocator;
  readonly deadlineMs: number | undefined;
}

/** The collectives that combines use: a process group's blocking ones, or its asynchronous ones, which give promises. */
export interface CombineCollectives {
  allGather(input: Tensor, output: Tensor, options?: DimOptions): unknown;
  reduceScatter(input: Tensor, output: Tensor, options?: DimOptions & ReductionOptions): unknown;
  allReduce(input: Tensor, output: Tensor, options?: ReductionOptions): unknown;
  allToAll(inputs: readonly Tensor[], outputs: readonly Tensor[], options?: CollectiveOptions): unknown;
  readPeers<T>(
    own: readonly Tensor[],
    read: (tensors: readonly (readonly Tensor[])[]) => T,
    options?: ReadOptions,
  ): T | Promise<T>;
}

/** Partial results of one size: where they land, and what becomes of them. */
export interface PlacedCombine extends PartialResults {
  readonly name: Combine;
  readonly place: "heap";
  /**
   * Combines what {@link PartialResults.out} and lse hold with the peers', and writes this rank's heads to `out`
   * [B, h, D] and, if given, `lse` [B, h]. May overwrite the partial results. Called by every rank.
   * @param via collectives of the DCP group. With asynchronous ones this rank's part is published before the call
   *   returns, and no other collective of the group may begin until the promise settles. Default: the blocking ones
   */
  combine(out: Tensor, lse: Tensor | undefined, via?: CombineCollectives): Promise<void>;
}

/** One way to combine. */
export interface CombineWay {
  /** Most query tokens of a step for which `auto` tries it. */
  autoRows(shape: PartialShape, setup: CombineSetup): number;
  /** f32 elements that arrive at this rank and must be kept until they are merged, for `batch` query tokens. */
  receivedElements(batch: number, shape: PartialShape, setup: CombineSetup): number;
  /** The combine of `batch` query tokens whose partial results land in `memory`: to be made once and used again. */
  place(batch: number, memory: PartialRows, setup: CombineSetup): PlacedCombine;
  /** Dtypes in which it can write the combination of partial outputs of a dtype. */
  resultDtypes(dtype: DType): readonly DType[];
  /** Combines partial results wherever they lie, as {@link PlacedCombine.combine}. */
  reduce(partial: PartialResults, setup: CombineSetup, out: Tensor, lse: Tensor | undefined): Promise<void>;
}
