import type { ReadOptions } from "@lockstep/dist-groups";
import { Arena, type Tensor } from "@lockstep/tensor";
import { OUTPUT_DTYPES, sameRanks } from "./combine.ts";
import type { CombineCollectives, CombineSetup, CombineWay, PlacedCombine } from "./combine-way.ts";
import type { PartialResults } from "./partial-memory.ts";

/** Each rank merges its own heads, in rank order, from where every peer left its partial outputs and LSEs. */
export const ALL_TO_ALL: CombineWay = {
  autoRows: () => Number.POSITIVE_INFINITY,
  receivedElements: () => 0,
  place: (batch, memory, setup) => new AllToAllCombine(memory.apart(batch), setup),
  resultDtypes: () => OUTPUT_DTYPES,
  reduce: (partial, setup, out, lse) => new AllToAllCombine(partial, setup).combine(out, lse),
};

class AllToAllCombine implements PlacedCombine {
  readonly name = "a2a";
  readonly place = "heap";
  readonly out: Tensor;
  readonly lse: Tensor;
  readonly #setup: CombineSetup;
  /** Bytes of one peer's rows of this rank's heads. */
  readonly #peerBytes: number;
  readonly #shared: readonly Tensor[];
  /** Whether each rank of the group owns its chunk of the heads, which is all that is brought to it then. */
  readonly #isChunked: boolean;
  readonly #exchange: ReadOptions;

  constructor({ out, lse }: PartialResults, setup: CombineSetup) {
    this.out = out;
    this.lse = lse;
    this.#setup = setup;
    const [batch = 0, , valueDim = 0] = out.shape;
    const element = out.size === 0 ? 4 : out.byteLength / out.size;
    this.#peerBytes = batch * setup.own.count * (valueDim * element + 4);
    this.#shared = [out, lse];
    this.#isChunked = sameRanks(setup.dcpGroup, setup.queryGroup);
    const bytesRead = (setup.dcpGroup.size - 1) * this.#peerBytes;
    this.#exchange = { deadlineMs: setup.deadlineMs, bytesRead, ...(this.#isChunked ? { dim: 1 } : {}) };
  }

  async combine(out: Tensor, lse: Tensor | undefined, via: CombineCollectives = this.#setup.dcpGroup): Promise<void> {
    const { backend, dcpGroup, base, nonFinite, allocator } = this.#setup;
    const merged = lse === undefined ? { base, nonFinite, out } : { base, nonFinite, out, lse };
    if (backend.isSynchronous) {
      const merging = this.#read(via, (outs, lses) => backend.mergeAttnStates({ outs, lses, ...merged }));
      if (merging !== undefined) await merging;
      return;
    }
    // A merge on a GPU outlives the exchange: take copies of the peers' rows first.
    const scratch = new Arena(allocator.heap, dcpGroup.size * (this.#peerBytes + 256));
    try {
      const copies = await this.#read(via, (outs, lses) => ({
        outs: outs.map((state) => state.clone(scratch)),
        lses: lses.map((state) => state.clone(scratch)),
      }));
      await backend.mergeAttnStates({ ...copies, ...merged });
    } finally {
      scratch.close();
    }
  }

  /** Runs `use` over every rank's partial results for this rank's heads, while the peers keep them. */
  #read<T>(via: CombineCollectives, use: (outs: Tensor[], lses: Tensor[]) => T): T | Promise<T> {
    const { own } = this.#setup;
    const isChunked = this.#isChunked;
    const mine = (tensor: Tensor): Tensor => (isChunked ? tensor : tensor.slice(1, own.start, own.end));
    return via.readPeers(
      this.#shared,
      (peers) => {
        const outs = peers.map(([peerOut]) => mine(peerOut ?? this.out));
        const lses = peers.map(([, peerLse]) => mine(peerLse ?? this.lse));
        return use(outs, lses);
      },
      this.#exchange,
    );
  }
}
