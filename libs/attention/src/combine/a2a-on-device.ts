import type { ReadOptions } from "@lockstep/dist-groups";
import type { Completion, GpuTensor, KernelBackend, Operand } from "@lockstep/kernels";
import { DTYPE_BYTES, Tensor } from "@lockstep/tensor";
import { sameRanks } from "./combine.ts";
import type { CombineSetup } from "./combine-way.ts";
import type { DevicePartialMemory, DevicePartials } from "./device-partial-memory.ts";
import type { PartialResults } from "./partial-memory.ts";
import { type RowSlice, rowSlices } from "./row-slices.ts";

/** True when the partial outputs of a group can be combined on the GPU that they were computed on. */
export function combinesOnDevice(attends: KernelBackend, { backend, dcpGroup, queryGroup }: CombineSetup): boolean {
  return attends === backend && backend.memory === "device" && dcpGroup.size > 1 && sameRanks(dcpGroup, queryGroup);
}

/** What of a slice goes to a rank, or stays. */
interface Chunk {
  /** As attention left it, with the other heads between one token's and the next one's. */
  readonly attended: DevicePartials;
  /** What is brought to the rank, or merged with what the peers computed: without gaps, in the dtype of the exchange. */
  readonly sent: DevicePartials;
  /** Where that rank reads it. */
  readonly shown: PartialResults;
}

/** Some query tokens, which are brought down, exchanged and merged by themselves. */
interface Slice extends RowSlice {
  /** By the rank, in rank order. */
  readonly chunks: readonly Chunk[];
  /** Where the others read it: outputs [B, H, D] and LSEs [B, H]. */
  readonly shown: readonly [Tensor, Tensor];
  readonly exchange: ReadOptions;
}

/**
 * The combine `a2a` where attention runs on a GPU: of the partial results only the heads that peers own come down, each
 * rank reads its own heads of the others, and merges them, in rank order, on its GPU with its own part, which never
 * left. The result stays there unless it is wanted in the heap. Peers see what {@link ALL_TO_ALL} would show them.
 *
 * Of large steps slices of query tokens ({@link rowSlices}) come down one after another, each in a submission of its
 * own. While the host exchanges one and takes the peers' part of it up, the next one is on its way. Merges are of each
 * row by itself, so slices have the bits of the whole.
 */
export class AllToAllOnDevice {
  readonly name = "a2a";
  readonly place = "device";
  /** Where attention is to leave its results [B, H, D] and [B, H], f32. */
  readonly out: GpuTensor;
  readonly lse: GpuTensor;
  readonly #setup: CombineSetup;
  readonly #memory: DevicePartialMemory;
  /** Query tokens of the whole step. */
  readonly #of: number;
  readonly #slices: readonly Slice[];
  /** By the slice, when it has come down. */
  readonly #coming: Completion[] = [];
  /** What was submitted for the step and is awaited by nobody else. */
  readonly #underWay = new Set<Promise<void>>();

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
    const { size } = setup.dcpGroup;
    const attended = memory.attended(of);
    this.out = attended.out.slice(0, first, first + batch);
    this.lse = attended.lse.slice(0, first, first + batch);
    this.#setup = setup;
    this.#memory = memory;
    this.#of = of;
    // Of all ranks together, whose heads may not be equally many, and of which each keeps its own.
    const bytes = batch * heads * (valueDim * DTYPE_BYTES[dtype] + 4) * (1 - 1 / size);
    this.#slices = rowSlices(batch, bytes).map((rows) => this.#slice(rows, first, shown));
  }

  /** How many slices its steps are cut in. */
  get slices(): number {
    return this.#slices.length;
  }

  /**
   * Runs `attend`, which leaves its results in {@link AllToAllOnDevice.out} and `lse`, and brings down what peers own:
   * the first slice in the submission that attends. All of it is submitted when the call returns.
   * @returns a promise of the first slice; {@link AllToAllOnDevice.combine} awaits the others
   */
  attendAndShow(attend: () => Completion): Completion {
    const { backend } = this.#setup;
    this.#coming.length = 0;
    for (const [index, slice] of this.#slices.entries()) {
      const done = backend.batch(() => {
        if (index === 0) void attend();
        this.#bring(slice);
      });
      this.#coming.push(done);
      this.#watch(done);
    }
    return this.#coming[0];
  }

  /**
   * Combines what was shown with what the peers show. Called by every rank.
   * @param out where this rank's heads go [B, h, D], f32, f16 or bf16, in the heap or on the GPU
   * @param lse where their LSE goes [B, h], f32; left out: nowhere
   * @throws what any slice throws, first: nothing of the others is under way then
   */
  async combine(out: Operand, lse: Operand | undefined): Promise<void> {
    try {
      const merging: Completion[] = [];
      for (const [index, slice] of this.#slices.entries()) {
        await this.#coming[index];
        merging.push(this.#exchange(slice, out, lse));
      }
      await Promise.all(merging);
    } catch (error) {
      await this.settled();
      throw error;
    }
  }

  /** Resolves once nothing of the step is under way, whatever came of it. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#underWay);
  }

  /** Keeps in mind what was submitted until it has ended. Who awaits it hears of its errors. */
  #watch(done: Completion): void {
    if (done === undefined) return;
    this.#underWay.add(done);
    const end = (): void => void this.#underWay.delete(done);
    done.then(end, end);
  }

  /** Packs what of a slice goes to each rank, or is merged here, and brings down what peers own. */
  #bring({ chunks }: Slice): void {
    const { backend, dcpGroup } = this.#setup;
    for (const [rank, { attended, sent, shown }] of chunks.entries()) {
      if (sent !== attended && sent.out.size > 0) {
        // A state alone merges into itself, rounded.
        void backend.mergeAttnStates({ outs: [attended.out], lses: [attended.lse], nonFinite: "propagate", ...sent });
      }
      if (rank === dcpGroup.rank) continue;
      void backend.download(sent.out, shown.out);
      void backend.download(sent.lse, shown.lse);
    }
  }

  /** Shows a slice to the peers and submits its merge; results that go to the heap come down with it. */
  #exchange(slice: Slice, out: Operand, lse: Operand | undefined): Completion {
    const { backend, dcpGroup } = this.#setup;
    const rowsOf = <T extends Operand>(of: T): Operand => {
      return this.#slices.length === 1 ? of : of.slice(0, slice.start, slice.end);
    };
    const to = { out: rowsOf(out), lse: lse === undefined ? undefined : rowsOf(lse) };
    const isInHeap = out instanceof Tensor || lse instanceof Tensor;
    const merged = isInHeap ? this.#memory.merged(out.dtype, this.#of) : undefined;
    const near = (operand: Operand, room: GpuTensor | undefined): Operand =>
      operand instanceof Tensor && room !== undefined ? room.slice(0, slice.start, slice.end) : operand;
    const kept = { out: near(to.out, merged?.out), lse: to.lse === undefined ? undefined : near(to.lse, merged?.lse) };
    let recorded: Completion;
    dcpGroup.readPeers(
      slice.shown,
      (peers) => {
        recorded = backend.batch(() => {
          void this.#merge(slice, peers, kept.out, kept.lse);
          if (to.out instanceof Tensor) void backend.download(kept.out, to.out);
          if (to.lse instanceof Tensor && kept.lse !== undefined) void backend.download(kept.lse, to.lse);
        });
        // Peers may fail to come out of the exchange, which throws then.
        this.#watch(recorded);
      },
      slice.exchange,
    );
    return recorded;
  }

  /** Records a slice's merge; what the peers show is taken before the batch that it is in returns. */
  #merge({ chunks }: Slice, peers: readonly (readonly Tensor[])[], out: Operand, lse: Operand | undefined): Completion {
    const { backend, dcpGroup, base, nonFinite } = this.#setup;
    const states = peers.map(([peerOut, peerLse], rank) => {
      const own = chunks[rank]?.sent;
      const isTheirs = rank !== dcpGroup.rank && peerOut !== undefined && peerLse !== undefined;
      if (isTheirs) return { out: peerOut, lse: peerLse };
      if (own === undefined) throw new RangeError(`the group has no rank ${rank}`);
      return own;
    });
    const outs = states.map((state) => state.out);
    const lses = states.map((state) => state.lse);
    return backend.mergeAttnStates({ outs, lses, base, nonFinite, out, ...(lse === undefined ? {} : { lse }) });
  }

  /** @param first the first row of the part in its step; `shown` is the part's */
  #slice({ start, end }: RowSlice, first: number, shown: PartialResults): Slice {
    const { heads, shape } = this.#memory;
    const { dcpGroup, own, deadlineMs } = this.#setup;
    const rows = end - start;
    const slice = { out: shown.out.slice(0, start, end), lse: shown.lse.slice(0, start, end) };
    const attended = { out: this.out.slice(0, start, end), lse: this.lse.slice(0, start, end) };
    const chunks = heads.map((range, rank): Chunk => {
      const left = {
        out: attended.out.slice(1, range.start, range.end),
        lse: attended.lse.slice(1, range.start, range.end),
      };
      // The heads of one token lie together as they are.
      const isPacked = rows > 1 || shape.dtype !== "f32";
      return {
        attended: left,
        sent: isPacked ? this.#memory.packed(rank, this.#of, first + start, first + end) : left,
        shown: {
          out: slice.out.slice(1, range.start, range.end),
          lse: slice.lse.slice(1, range.start, range.end),
        },
      };
    });
    const peerBytes = rows * own.count * (shape.valueDim * DTYPE_BYTES[shape.dtype] + 4);
    const exchange = { deadlineMs, bytesRead: (dcpGroup.size - 1) * peerBytes, dim: 1 };
    return { start, end, chunks, shown: [slice.out, slice.lse], exchange };
  }
}
