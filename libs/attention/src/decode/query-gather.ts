import type { ProcessGroup } from "@lockstep/dist-groups";
import type { Completion, GpuTensor, KernelBackend, Operand } from "@lockstep/kernels";
import { type Allocator, type DType, Tensor } from "@lockstep/tensor";
import { isOnGpu } from "../arguments/operand-memory.ts";
import { after } from "./after.ts";
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
  /** Of the queries that ranks bring. */
  readonly queryDtype: DType;
  /** Dtype in which queries are gathered; f8e4m3 rounds them first. */
  readonly dtype: DType;
  /** For f8e4m3: queries are divided by it before they are rounded. */
  readonly scale: number;
  /** Every rank brings the queries of all heads. */
  readonly replicated: boolean;
  /** Rounds queries. */
  readonly backend: KernelBackend;
  /** Attends, and has the queries that lie on a GPU. */
  readonly attends: KernelBackend;
  readonly deadlineMs: number | undefined;
}

/** Bytes of scratch memory that a QueryGather takes. */
export function queryGatherBytes(options: QueryGatherOptions): number {
  const { rows, heads, ownHeads, headDim } = options;
  return rows * (heads + 2 * ownHeads) * headDim * 4 + 768;
}

/**
 * Brings the queries of all heads of a query group to every rank. In f8e4m3 a query takes a quarter of the bytes of
 * f32: x is stored as x / scale, so scores must be multiplied by {@link QueryGather.scoreFactor}. Queries are rounded
 * even if there is nothing to gather, so that results do not depend on the number of ranks.
 *
 * Where a rank attends on a GPU of its own, large queries of its peers go from where they lie straight to where they go
 * up from, and its own, if they lie on the GPU, are copied there: see {@link QueryGather.attend}.
 */
export class QueryGather {
  readonly #options: QueryGatherOptions;
  readonly #gathered: Tensor;
  readonly #rounded: Tensor | undefined;
  /** This rank's queries where peers reach them, when they lie on a GPU. */
  readonly #brought: Tensor | undefined;
  readonly #views = new Map<string, Tensor>();
  /** By the chunks that the group showed: they are the same list when the same tensors come again. */
  readonly #joined = new WeakMap<readonly Tensor[], { readonly own: Operand; readonly all: Operand }>();

  constructor(options: QueryGatherOptions, allocator: Allocator) {
    this.#options = options;
    const { rows, heads, ownHeads, headDim, dtype, queryDtype, attends } = options;
    this.#gathered = Tensor.empty(allocator, dtype, [rows, heads, headDim]);
    if (dtype === "f8e4m3") this.#rounded = Tensor.empty(allocator, dtype, [rows, ownHeads, headDim]);
    if (attends.memory === "device") this.#brought = Tensor.empty(allocator, queryDtype, [rows, ownHeads, headDim]);
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
    const own = this.#round(query);
    return own instanceof Promise ? own.then((rounded) => this.#gather(rounded)) : this.#gather(own);
  }

  /**
   * Runs `attend` with the queries of all heads, gathered from this rank's as by {@link gather}. It reads them before
   * it returns, though it may complete later: large ones of peers lie in their memory, whose ranks wait for that.
   * @param query in memory that peers reach, or on the GPU of the backend that attends
   * @returns a promise where there is something to await
   */
  attend(query: Operand, attend: (gathered: Operand) => Completion): Completion {
    if (this.keeps(query.dtype)) return attend(query);
    if (isOnGpu(query)) return this.#bringAndAttend(query, attend);
    return after(this.#round(query), (own) => this.#attendTo(own, own, attend));
  }

  /** What {@link gather} gives, of queries that may lie on a GPU; these themselves where they need not be gathered. */
  gatherFrom(query: Operand): Operand | Promise<Operand> {
    if (!isOnGpu(query)) return this.gather(query);
    return this.keeps(query.dtype) ? query : this.#bring(query).then((own) => this.gather(own));
  }

  async #bring(query: GpuTensor): Promise<Tensor> {
    if (this.#brought === undefined) throw new RangeError("queries on a GPU, of a backend that has none");
    const brought = this.#rowsOf("brought", this.#brought, query.shape[0] ?? 0);
    await this.#options.attends.download(query, brought);
    return brought;
  }

  /** Peers need this rank's queries in the heap; the rank itself does not, unless they are rounded there. */
  async #bringAndAttend(query: GpuTensor, attend: (gathered: Operand) => Completion): Promise<void> {
    const brought = await this.#bring(query);
    const own = await this.#round(brought);
    await this.#attendTo(own, own === brought ? query : own, attend);
  }

  /** @param near where this rank's own queries are to be read for its own attention */
  #attendTo(own: Tensor, near: Operand, attend: (gathered: Operand) => Completion): Completion {
    const { attends, group, deadlineMs } = this.#options;
    if (this.isLocal || attends.join === undefined) return attend(this.#gather(own));
    const gathered = this.#rowsOf("gathered", this.#gathered, own.dim(0));
    let isRead = false;
    let attending: Completion;
    const read = (chunks: readonly Tensor[]): void => {
      isRead = true;
      attending = attend(this.#join(chunks, near));
    };
    try {
      group.allGather(own, gathered, { dim: 1, deadlineMs, read });
    } catch (error) {
      // What was begun must not outlive the call.
      return after(
        attending?.catch(() => undefined),
        () => {
          throw error;
        },
      );
    }
    return isRead ? attending : attend(gathered);
  }

  #join(chunks: readonly Tensor[], near: Operand): Operand {
    const known = this.#joined.get(chunks);
    if (known?.own === near) return known.all;
    const { attends, group } = this.#options;
    const parts = chunks.map((chunk, rank) => (rank === group.rank && !isAskew(near) ? near : chunk));
    const all = attends.join?.(parts);
    if (all === undefined) throw new RangeError(`${attends.name} does not join parts`);
    this.#joined.set(chunks, { own: near, all });
    return all;
  }

  /** This rank's queries in the dtype in which they are gathered. */
  #round(query: Tensor): Tensor | Promise<Tensor> {
    const { dtype, backend, scale } = this.#options;
    if (this.#rounded === undefined || query.dtype === dtype) return query;
    const tokens = query.dim(0);
    const rounded = this.isLocal
      ? this.#rowsOf("gathered", this.#gathered, tokens)
      : this.#rowsOf("rounded", this.#rounded, tokens);
    const slotMapping = Int32Array.from({ length: tokens }, (_, token) => token);
    const keyCache = rounded.unsqueeze(1);
    const done = backend.writeKvCache({ key: query, slotMapping, keyCache, keyScale: [scale] });
    return done === undefined ? rounded : done.then(() => rounded);
  }

  #gather(own: Tensor): Tensor {
    if (this.isLocal) return own;
    const { group, heads, deadlineMs } = this.#options;
    const out = this.#rowsOf("gathered", this.#gathered, own.dim(0));
    return dcpPrepareQuery(own, group, { heads, out, deadlineMs });
  }

  /** The first rows of a tensor: a view that is made once for each number of them. */
  #rowsOf(role: string, tensor: Tensor, tokens: number): Tensor {
    const key = `${role} ${tokens}`;
    let view = this.#views.get(key);
    if (view === undefined) {
      view = tensor.slice(0, 0, tokens);
      this.#views.set(key, view);
    }
    return view;
  }
}

/** True for queries on a GPU with gaps, whose copies in the heap are joined instead. */
function isAskew(query: Operand): boolean {
  return isOnGpu(query) && !query.isContiguous;
}
