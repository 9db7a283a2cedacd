import { type Allocator, type DType, Tensor } from "@lockstep/tensor";

/** Partial results of B query tokens for all H heads of the query group. */
export interface PartialResults {
  /** [B, H, D] */
  readonly out: Tensor;
  /** [B, H], f32 */
  readonly lse: Tensor;
}

/** Partial results of steps up to a size. */
export interface PartialShape {
  /** Most query tokens of a step. */
  readonly rows: number;
  /** Query heads of the whole query group. */
  readonly heads: number;
  readonly valueDim: number;
  /** Of partial outputs. */
  readonly dtype: DType;
}

/** What partial results of steps up to a size need memory for. */
export interface PartialMemoryShape extends PartialShape {
  /** This rank's heads. */
  readonly ownHeads: number;
  /** Results are to be rounded to 16 bits after they were summed in f32. */
  readonly keepsSums: boolean;
  /** f32 elements that arrive from peers. */
  readonly receivedElements: number;
}

/** Where partial results of a step, or of some of its rows, lie. */
export interface PartialRows {
  /** Where peers' rows arrive, f32, one-dimensional. */
  readonly received: Tensor;
  /** Outputs [batch, heads, valueDim], and behind them LSEs [batch, heads]. */
  apart(batch: number): PartialResults;
  /** Rows with their LSE behind them [batch, heads, valueDim + 1], f32: the memory of {@link PartialRows.apart}. */
  packed(batch: number): Tensor;
  /** This rank's heads before they are rounded [batch, ownHeads, valueDim], f32; undefined when none are. */
  sums(batch: number): Tensor | undefined;
}

/** Memory for partial results, which all combines of a rank use in turn. Its tensors are views, made when asked for. */
export class PartialMemory implements PartialRows {
  readonly received: Tensor;
  readonly #shape: PartialMemoryShape;
  /** Outputs with their LSEs; LSEs alone when outputs are in 16 bits. */
  readonly #partial: Tensor;
  /** Outputs in 16 bits; empty when they are f32. */
  readonly #rounded: Tensor;
  readonly #sums: Tensor;

  constructor(shape: PartialMemoryShape, allocator: Allocator) {
    this.#shape = shape;
    const { partial, received, sums, rounded } = elementsOf(shape);
    this.#partial = Tensor.empty(allocator, "f32", [partial]);
    this.received = Tensor.empty(allocator, "f32", [received]);
    this.#sums = Tensor.empty(allocator, "f32", [sums]);
    this.#rounded = Tensor.empty(allocator, shape.dtype, [rounded]);
  }

  /** Bytes that the constructor takes of its allocator. */
  static bytes(shape: PartialMemoryShape): number {
    const { partial, received, sums, rounded } = elementsOf(shape);
    return (partial + received + sums) * 4 + rounded * 2 + 1024;
  }

  apart(batch: number): PartialResults {
    const { heads, valueDim, dtype } = this.#shape;
    const rows = batch * heads;
    const outs = rows * valueDim;
    const isRounded = dtype !== "f32";
    const out = (isRounded ? this.#rounded : this.#partial).slice(0, 0, outs).reshape([batch, heads, valueDim]);
    const before = isRounded ? 0 : outs;
    return { out, lse: this.#partial.slice(0, before, before + rows).reshape([batch, heads]) };
  }

  packed(batch: number): Tensor {
    const { heads, valueDim } = this.#shape;
    const width = valueDim + 1;
    return this.#partial.slice(0, 0, batch * heads * width).reshape([batch, heads, width]);
  }

  /**
   * Rows [first, first + batch) of a step of `of` rows, where the whole step's would lie: parts of a step have room
   * beside each other. What arrives and what is summed is not apart: one part after another combines.
   */
  rowsOf(of: number, first: number): PartialRows {
    return {
      received: this.received,
      apart: (batch) => {
        const { out, lse } = this.apart(of);
        return { out: out.slice(0, first, first + batch), lse: lse.slice(0, first, first + batch) };
      },
      packed: (batch) => this.packed(of).slice(0, first, first + batch),
      sums: (batch) => this.sums(batch),
    };
  }

  sums(batch: number): Tensor | undefined {
    const { ownHeads, valueDim, keepsSums } = this.#shape;
    if (!keepsSums) return undefined;
    return this.#sums.slice(0, 0, batch * ownHeads * valueDim).reshape([batch, ownHeads, valueDim]);
  }
}

function elementsOf({ rows, heads, valueDim, dtype, ownHeads, keepsSums, receivedElements }: PartialMemoryShape) {
  const isRounded = dtype !== "f32";
  return {
    partial: rows * heads * (isRounded ? 1 : valueDim + 1),
    received: receivedElements,
    sums: keepsSums ? rows * ownHeads * valueDim : 0,
    rounded: isRounded ? rows * heads * valueDim : 0,
  };
}
