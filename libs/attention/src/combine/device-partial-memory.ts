import type { HeadRange } from "@lockstep/dist-groups";
import { GpuTensor, type KernelBackend } from "@lockstep/kernels";
import { DTYPE_BYTES, type DType } from "@lockstep/tensor";
import type { PartialShape } from "./partial-memory.ts";

/** Some heads of some query tokens: outputs [B, h, D] and LSEs [B, h]. */
export interface DevicePartials {
  readonly out: GpuTensor;
  readonly lse: GpuTensor;
}

/** What is packed begins at multiples of so many bytes: kernels move as much at once, and copies want 4. */
const PACKED_ALIGNMENT = 16;

/**
 * Memory on a GPU for the partial results of a rank's steps. Allocated when steps of about a size come first, and kept:
 * less than twice what the largest step takes. All combines of steps of one size use it in turn.
 */
export class DevicePartialMemory {
  readonly shape: PartialShape;
  /** Of every rank of the group, in rank order. */
  readonly heads: readonly HeadRange[];
  readonly #backend: KernelBackend;
  readonly #ownHeads: number;
  readonly #tensors = new Map<string, GpuTensor>();

  constructor(backend: KernelBackend, shape: PartialShape, heads: readonly HeadRange[], ownHeads: number) {
    this.#backend = backend;
    this.shape = shape;
    this.heads = heads;
    this.#ownHeads = ownHeads;
  }

  /** Where attention leaves its results [batch or more, H, D] and [batch or more, H], f32. @throws DeviceError */
  attended(batch: number): DevicePartials {
    const { heads, valueDim } = this.shape;
    const rows = this.#rowsFor(batch);
    return {
      out: this.#take("f32", "attended", [rows, heads, valueDim]),
      lse: this.#take("f32", "lse", [rows, heads]),
    };
  }

  /**
   * Where the heads of a rank of the group lie, rounded and without gaps, of query tokens [first, end) of a step of
   * `of`: [end - first, h, D] and [end - first, h]. Those of other ranks and of other tokens lie apart.
   */
  packed(rank: number, of: number, first: number, end: number): DevicePartials {
    const { valueDim, dtype, heads: allHeads } = this.shape;
    const rows = this.#rowsFor(of);
    const pitches = this.heads.map(({ count }) => this.#packedPitch(count));
    const pitch = pitches[rank] ?? 0;
    const before = pitches.slice(0, rank).reduce((sum, each) => sum + each, 0);
    const all = pitches.reduce((sum, each) => sum + each, 0);
    const out = this.#take(dtype, "packed", [rows * all]);
    const lse = this.#take("f32", "packed lse", [rows * allHeads]);
    const { start, count } = this.heads[rank] ?? { start: 0, count: 0 };
    const shape = [end - first, count, valueDim];
    const keep = (): undefined => undefined;
    // Nothing lies nowhere in particular.
    const [outAt, lseAt] = count === 0 ? [0, 0] : [rows * before + first * pitch, rows * start + first * count];
    return {
      out: new GpuTensor(out.memory, dtype, shape, undefined, outAt, keep),
      lse: new GpuTensor(lse.memory, "f32", [end - first, count], undefined, lseAt, keep),
    };
  }

  /** Where a merge leaves what goes to the heap: [batch or more, h, D] of a dtype, and [batch or more, h]. */
  merged(dtype: DType, batch: number): DevicePartials {
    const { valueDim } = this.shape;
    const rows = this.#rowsFor(batch);
    const out = this.#take(dtype, "merged", [rows, this.#ownHeads, valueDim]);
    return { out, lse: this.#take("f32", "merged lse", [rows, this.#ownHeads]) };
  }

  free(): void {
    for (const tensor of this.#tensors.values()) tensor.free();
    this.#tensors.clear();
  }

  /** Elements from where `heads` heads of one token may begin to where those of the next may. */
  #packedPitch(heads: number): number {
    const { valueDim, dtype } = this.shape;
    const step = PACKED_ALIGNMENT / DTYPE_BYTES[dtype];
    return Math.ceil((heads * valueDim) / step) * step;
  }

  #rowsFor(batch: number): number {
    return Math.min(this.shape.rows, 2 ** Math.ceil(Math.log2(Math.max(1, batch))));
  }

  #take(dtype: DType, role: string, shape: readonly number[]): GpuTensor {
    const key = `${role} ${dtype} ${shape[0]}`;
    const known = this.#tensors.get(key);
    if (known !== undefined) return known;
    const made = this.#backend.empty(dtype, shape);
    if (!(made instanceof GpuTensor)) throw new RangeError(`${this.#backend.name} keeps tensors in the heap`);
    this.#tensors.set(key, made);
    return made;
  }
}
