import { type DeviceSharing, GpuTensor, type KernelBackend } from "@lockstep/kernels";
import type { DType } from "@lockstep/tensor";
import type { CombineSetup } from "./combine-way.ts";
import type { PartialShape } from "./partial-memory.ts";

/** What ranks that share a device leave there for each other in steps of up to `rows` query tokens. */
export interface SharedPartials {
  /** Queries of all heads [rows, H, Dk], of the dtype in which they are gathered. */
  readonly query: GpuTensor;
  /** Partial outputs of every rank of the DCP group [ranks, rows, H, D], of the dtype in which they are exchanged. */
  readonly outs: GpuTensor;
  /** Their LSEs [ranks, rows, H], f32. */
  readonly lses: GpuTensor;
}

/** Queries as they are gathered. */
export interface GatheredQuery {
  readonly headDim: number;
  readonly dtype: DType;
}

/**
 * Memory on a device that all ranks of a DCP group share, which the first of them allocates and shows the others: all
 * partial results lie in one piece, so that a merge reads them where they lie. Allocated when steps of about a size
 * come first, and kept: less than twice what the largest step takes.
 */
export class SharedPartialMemory {
  readonly shape: PartialShape;
  readonly #query: GatheredQuery;
  readonly #backend: KernelBackend;
  readonly #sharing: DeviceSharing;
  readonly #setup: CombineSetup;
  readonly #known = new Map<number, SharedPartials>();
  readonly #allocated: GpuTensor[] = [];

  constructor(
    backend: KernelBackend,
    sharing: DeviceSharing,
    shape: PartialShape,
    query: GatheredQuery,
    setup: CombineSetup,
  ) {
    this.#backend = backend;
    this.#sharing = sharing;
    this.shape = shape;
    this.#query = query;
    this.#setup = setup;
  }

  /**
   * Memory for steps of so many query tokens. Called by every rank that shares the device.
   * @throws DeviceError and ArgumentError, when there is not so much on the device: on every rank
   */
  async of(batch: number): Promise<SharedPartials> {
    const rows = Math.min(this.shape.rows, 2 ** Math.ceil(Math.log2(Math.max(1, batch))));
    const known = this.#known.get(rows);
    if (known !== undefined) return known;
    const { dcpGroup } = this.#setup;
    const shown = await this.#sharing.show(() => (dcpGroup.rank === 0 ? this.#allocate(rows) : []));
    const [query, outs, lses] = shown[this.#sharing.ranks.indexOf(dcpGroup.ranks[0] ?? -1)] ?? [];
    if (query === undefined || outs === undefined || lses === undefined) {
      throw new RangeError("the first rank of the DCP group shows no memory");
    }
    const partials = { query, outs, lses };
    this.#known.set(rows, partials);
    return partials;
  }

  free(): void {
    for (const tensor of this.#allocated) tensor.free();
    this.#allocated.length = 0;
    this.#known.clear();
  }

  #allocate(rows: number): GpuTensor[] {
    const { heads, valueDim, dtype } = this.shape;
    const { size } = this.#setup.dcpGroup;
    const { headDim, dtype: queryDtype } = this.#query;
    const made: GpuTensor[] = [];
    const make = (of: DType, shape: readonly number[]): void => {
      const operand = this.#backend.empty(of, shape);
      if (operand instanceof GpuTensor) made.push(operand);
    };
    try {
      make(queryDtype, [rows, heads, headDim]);
      make(dtype, [size, rows, heads, valueDim]);
      make("f32", [size, rows, heads]);
    } catch (error) {
      for (const tensor of made) tensor.free();
      throw error;
    }
    this.#allocated.push(...made);
    return made;
  }
}
