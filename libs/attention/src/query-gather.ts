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
 * Brings the queries of all heads of a query group to every rank. In f8e4m3 a query takes a quarter of the bytes of f32: x is
 * stored as x / scale, and the scale is to be part of the factor on q.k ({@link QueryGather.scoreFactor}). Queries are rounded
 * whether or not there is anything to gather, so that results do not depend on the number of ranks.
 */
export class QueryGather {
  readonly #options: QueryGatherOptions;
  readonly #gathered: Tensor;
  readonly #rounded: Tensor | undefined;

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

  /** Queries of all heads [T, heads, headDim] from this rank's [T, ownHeads, headDim] (all heads when replicated). */
  async gather(query: Tensor): Promise<Tensor> {
    const { group, heads, dtype, backend, scale, deadlineMs } = this.#options;
    const tokens = query.dim(0);
    let own = query;
    if (this.#rounded !== undefined && query.dtype !== dtype) {
      own = (this.isLocal ? this.#gathered : this.#rounded).slice(0, 0, tokens);
      const slotMapping = Int32Array.from({ length: tokens }, (_, token) => token);
      await backend.writeKvCache({ key: query, slotMapping, keyCache: own.unsqueeze(1), keyScale: [scale] });
    }
    if (this.isLocal) return own;
    return dcpPrepareQuery(own, group, { heads, into: this.#gathered.slice(0, 0, tokens), deadlineMs });
  }
}
