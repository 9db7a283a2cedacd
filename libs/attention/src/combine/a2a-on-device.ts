import { headRange, type HeadRange, type ReadOptions } from "@lockstep/dist-groups";
import { type Completion, GpuTensor, type KernelBackend, type Operand } from "@lockstep/kernels";
import { DTYPE_BYTES, type DType, Tensor } from "@lockstep/tensor";
import { sameRanks } from "./combine.ts";
import type { CombineSetup } from "./combine-way.ts";
import type { PartialResults, PartialShape } from "./partial-memory.ts";

/** What a merge reads of one rank: outputs [B, h, D] and LSEs [B, h], without gaps. */
interface Chunk {
  readonly out: GpuTensor;
  readonly lse: GpuTensor;
}

/** True when the partial outputs of a group can be combined on the GPU that they were computed on. */
export function combinesOnDevice(attends: KernelBackend, { backend, dcpGroup, queryGroup }: CombineSetup): boolean {
  return attends === backend && backend.memory === "device" && dcpGroup.size > 1 && sameRanks(dcpGroup, queryGroup);
}

/**
 * Memory on a GPU for the partial results of a rank's steps. Allocated when steps of about a size come first, and kept:
 * less than twice what the largest step takes. All combines of steps of one size use it in turn.
 */
export class DevicePartialMemory {
  readonly shape: PartialShape;
  readonly #backend: KernelBackend;
  readonly #ownHeads: number;
  readonly #tensors = new Map<string, GpuTensor>();

  constructor(backend: KernelBackend, shape: PartialShape, ownHeads: number) {
    this.#backend = backend;
    this.shape = shape;
    this.#ownHeads = ownHeads;
  }

  /** Where attention leaves its results [batch or more, H, D] and [batch or more, H], f32. @throws DeviceError */
  attended(batch: number): Chunk {
    const { heads, valueDim } = this.shape;
    const rows = this.#rowsFor(batch);
    return {
      out: this.#take("f32", "attended", [rows, heads, valueDim]),
      lse: this.#take("f32", "lse", [rows, heads]),
    };
  }

  /** The same, rounded, each rank's heads together: of at least `batch * H * D` elements and `batch * H`. */
  packed(batch: number): Chunk {
    const { heads, valueDim, dtype } = this.shape;
    const rows = this.#rowsFor(batch);
    const out = this.#take(dtype, "packed", [rows * heads * valueDim]);
    return { out, lse: this.#take("f32", "packed lse", [rows * heads]) };
  }

  /** Where a merge leaves what goes to the heap: [batch or more, h, D] of a dtype, and [batch or more, h]. */
  merged(dtype: DType, batch: number): Chunk {
    const { valueDim } = this.shape;
    const rows = this.#rowsFor(batch);
    const out = this.#take(dtype, "merged", [rows, this.#ownHeads, valueDim]);
    return { out, lse: this.#take("f32", "merged lse", [rows, this.#ownHeads]) };
  }

  free(): void {
    for (const tensor of this.#tensors.values()) tensor.free();
    this.#tensors.clear();
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

/**
 * The combine `a2a` where attention runs on a GPU: of the partial results only the heads that peers own come down, each
 * rank reads its own heads of the others, and merges them, in rank order, on its GPU with its own part, which never
 * left. The result stays there unless it is wanted in the heap. Peers see what {@link ALL_TO_ALL} would show them.
 */
export class AllToAllOnDevice {
  readonly name = "a2a";
  readonly place = "device";
  /** Where attention is to leave its results [B, H, D] and [B, H], f32. */
  readonly out: GpuTensor;
  readonly lse: GpuTensor;
  readonly #setup: CombineSetup;
  readonly #memory: DevicePartialMemory;
  readonly #batch: number;
  /** Query tokens of the whole step. */
  readonly #of: number;
  /** Of every rank of the group, in rank order. */
  readonly #heads: readonly HeadRange[];
  /** What of this rank's results is brought to each rank, or stays, on the GPU. */
  readonly #chunks: readonly Chunk[];
  readonly #isPacked: boolean;
  /** Where the others read it [B, H, D] and [B, H]. */
  readonly #shown: PartialResults;
  readonly #exchange: ReadOptions;

  /**
   * @param part the rows are [first, first + batch) of a step of `of`, whose memory they lie in; left out: all of it
   * @throws DeviceError when there is no memory for it on the GPU
   */
  constructor(
    batch: number,
    memory: DevicePartialMemory,
    shown: PartialResults,
    setup: CombineSetup,
    { first, of }: { readonly first: number; readonly of: number } = { first: 0, of: batch },
  ) {
    const { heads, valueDim, dtype } = memory.shape;
    const { dcpGroup, own } = setup;
    const attended = memory.attended(of);
    this.out = attended.out.slice(0, first, first + batch);
    this.lse = attended.lse.slice(0, first, first + batch);
    this.#setup = setup;
    this.#memory = memory;
    this.#batch = batch;
    this.#of = of;
    this.#shown = shown;
    this.#heads = Array.from({ length: dcpGroup.size }, (_, rank) => headRange(heads, rank, dcpGroup.size));
    // The heads of one token lie together as they are.
    this.#isPacked = batch > 1 || dtype !== "f32";
    this.#chunks = this.#heads.map((range) =>
      this.#isPacked ? packedChunk(memory.packed(of), range, batch, valueDim, first * heads) : this.#slice(range),
    );
    const peerBytes = batch * own.count * (valueDim * DTYPE_BYTES[dtype] + 4);
    this.#exchange = { deadlineMs: setup.deadlineMs, bytesRead: (dcpGroup.size - 1) * peerBytes, dim: 1 };
  }

  /**
   * Runs `attend`, which leaves its results in {@link AllToAllOnDevice.out} and `lse`, and brings down what peers own:
   * in one submission.
   */
  attendAndShow(attend: () => Completion): Completion {
    const { backend, dcpGroup } = this.#setup;
    return backend.batch(() => {
      void attend();
      for (const [rank, { start, end, count }] of this.#heads.entries()) {
        const chunk = this.#chunks[rank];
        if (chunk === undefined) continue;
        if (this.#isPacked && count > 0) {
          const { out, lse } = this.#slice({ start, end, count });
          // A state alone merges into itself, rounded.
          void backend.mergeAttnStates({ outs: [out], lses: [lse], nonFinite: "propagate", ...chunk });
        }
        if (rank === dcpGroup.rank) continue;
        void backend.download(chunk.out, this.#shown.out.slice(1, start, end));
        void backend.download(chunk.lse, this.#shown.lse.slice(1, start, end));
      }
    });
  }

  /**
   * Combines what was shown with what the peers show. Called by every rank.
   * @param out where this rank's heads go [B, h, D], f32, f16 or bf16, in the heap or on the GPU
   * @param lse where their LSE goes [B, h], f32; left out: nowhere
   */
  async combine(out: Operand, lse: Operand | undefined): Promise<void> {
    const { backend, dcpGroup } = this.#setup;
    const isInHeap = out instanceof Tensor || lse instanceof Tensor;
    const merged = isInHeap ? this.#memory.merged(out.dtype, this.#of) : undefined;
    const kept = {
      out: out instanceof Tensor && merged !== undefined ? merged.out.slice(0, 0, this.#batch) : out,
      lse: lse instanceof Tensor && merged !== undefined ? merged.lse.slice(0, 0, this.#batch) : lse,
    };
    let recorded: Completion;
    dcpGroup.readPeers(
      [this.#shown.out, this.#shown.lse],
      (peers) => {
        recorded = this.#merge(peers, kept.out, kept.lse);
      },
      this.#exchange,
    );
    await recorded;
    if (!isInHeap) return;
    await backend.batch(() => {
      if (out instanceof Tensor) void backend.download(kept.out, out);
      if (lse instanceof Tensor && kept.lse !== undefined) void backend.download(kept.lse, lse);
    });
  }

  /** Records the merge; what the peers show is taken before it returns. */
  #merge(peers: readonly (readonly Tensor[])[], out: Operand, lse: Operand | undefined): Completion {
    const { backend, dcpGroup, base, nonFinite } = this.#setup;
    const states = peers.map(([peerOut, peerLse], rank) => {
      const own = this.#chunks[rank];
      const isTheirs = rank !== dcpGroup.rank && peerOut !== undefined && peerLse !== undefined;
      if (isTheirs) return { out: peerOut, lse: peerLse };
      if (own === undefined) throw new RangeError(`the group has no rank ${rank}`);
      return own;
    });
    const outs = states.map((state) => state.out);
    const lses = states.map((state) => state.lse);
    return backend.mergeAttnStates({ outs, lses, base, nonFinite, out, ...(lse === undefined ? {} : { lse }) });
  }

  #slice({ start, end }: HeadRange): Chunk {
    return { out: this.out.slice(1, start, end), lse: this.lse.slice(1, start, end) };
  }
}

/**
 * The heads of a rank [batch, h, D] and their LSEs [batch, h] in memory that holds those of each rank together, behind
 * `before` rows of a head.
 */
function packedChunk(
  { out, lse }: Chunk,
  { start, count }: HeadRange,
  batch: number,
  valueDim: number,
  before: number,
): Chunk {
  const keep = (): undefined => undefined;
  const { memory, dtype } = out;
  const shape = [batch, count, valueDim];
  const row = count === 0 ? 0 : before + batch * start;
  return {
    out: new GpuTensor(memory, dtype, shape, undefined, row * valueDim, keep),
    lse: new GpuTensor(lse.memory, "f32", [batch, count], undefined, row, keep),
  };
}
