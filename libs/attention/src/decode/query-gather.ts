import type { ProcessGroup } from "@lockstep/dist-groups";
import type { KernelBackend } from "@lockstep/kernels";
import { type Allocator, type DType, Tensor } from "@lockstep/tensor";
import { dcpPrepareQuery } from "./prepare-query.ts";

/** What a gather of queries is made for. */
export interface QueryGatherOptions {
  readonly group: ProcessGroup;
  /** Query heads of the whole group, and of this rank. */
  readonly heads: number;
  readonly ownHeads: number;
  readonly headDim: number;
  /** Most rows of one step. */
  readonly rows: number;
  /** Dtype in which queries are gathered; f8e4m3 rounds them first. */
  readonly dtype: DType;
  /** For f8e4m3: queries are divided by it before they are rounded. */
  readonly scale: number;
  /** Every rank brings the queries of all heads. */
  readonly replicated: boolean;
  /** Rounds queries; a wasm or reference backend. */
  readonly backend: KernelBackend;
  readonly deadlineMs: number | undefined;
}

/** Bytes of scratch memory that a QueryGather takes. */
export function queryGatherBytes(options: QueryGatherOptions): number {
  const { rows, heads, ownHeads, headDim } = options;
  return rows * (heads + ownHeads) * headDim * 4 + 512;
}

/**
 * Brings the queries of all heads of a query group to every rank. In f8e4m3 a query takes a quarter of the bytes of
 * f32: x is stored as x / scale, so scores must be multiplied by {@link QueryGather.scoreFactor}. Queries are rounded
 * even if there is nothing to gather, so that results do not depend on the number of ranks.
 */
export class QueryGather {
  readonly #options: QueryGatherOptions;
  readonly #gathered: Tensor;
  readonly #rounded: Tensor | undefined;
  readonly #views = new Map<number, Tensor>();

  constructor(options: QueryGatherOptions, allocator: Allocator) {
    this.#options = options;
    const { rows, heads, ownHeads, headDim, dtype } = options;
    this.#gathered = Tensor.empty(allocator, dtype, [rows, heads, headDim]);
    if (dtype === "f8e4m3") this.#rounded = Tensor.empty(allocator, dtype, [rows, ownHeads, headDim]);
  }

  /** True when every rank attends for the heads that it brings. */
  get isLocal(): boolean {
    return this.#options.group.size === 1 || this.#options.replicated;
  }

  /** What a gathered query's scores must be multiplied by. */
  get scoreFactor(): number {
    return this.#options.dtype === "f8e4m3" ? this.#options.scale : 1;
  }

  /** True when it gives queries of a dtype back as they are, wherever they lie. */
  keeps(dtype: DType): boolean {
    return this.isLocal && (this.#rounded === undefined || dtype === this.#options.dtype);
  }

  /** Queries of all heads [T, heads, headDim] from this rank's [T, ownHeads, headDim] (all heads when replicated). */
  gather(query: Tensor): Tensor | Promise<Tensor> {
    const { dtype, backend, scale } = this.#options;
    if (this.#rounded === undefined || query.dtype === dtype) return this.#gather(query);
    const tokens = query.dim(0);
    const rounded = (this.isLocal ? this.#gathered : this.#rounded).slice(0, 0, tokens);
    const slotMapping = Int32Array.from({ length: tokens }, (_, token) => token);
    const keyCache = rounded.unsqueeze(1);
    const done = backend.writeKvCache({ key: query, slotMapping, keyCache, keyScale: [scale] });
    return done === undefined ? this.#gather(rounded) : done.then(() => this.#gather(rounded));
  }

  #gather(own: Tensor): Tensor {
    if (this.isLocal) return own;
    const { group, heads, deadlineMs } = this.#options;
    return dcpPrepareQuery(own, group, { heads, out: this.#gatheredRows(own.dim(0)), deadlineMs });
  }

  /** The first rows of the gathered queries: a view that is made once for each number of them. */
  #gatheredRows(tokens: number): Tensor {
    let view = this.#views.get(tokens);
    if (view === undefined) {
      view = this.#gathered.slice(0, 0, tokens);
      this.#views.set(tokens, view);
    }
    return view;
  }
}
