import { forEachOffset, Tensor } from "@lockstep/tensor";
import { sameRanks } from "./combine.ts";
import type { CombineCollectives, CombineSetup, CombineWay, PlacedCombine } from "./combine-way.ts";
import { dcpCorrectAttnOut } from "./correct-attn-out.ts";
import type { PartialResults } from "./partial-memory.ts";

/**
 * LSE all-gather, correction, then a reduce-scatter along the heads when the DCP group and the query group are the same
 * ranks in the same order, else an all-reduce and this rank's slice. Overwrites the partial output.
 */
export const GATHER_REDUCE: CombineWay = {
  // Choosing by time must not change a bit.
  autoRows: ({ dtype }, { backend }) => (backend.roundsAsCollectives && dtype === "f32" ? Number.POSITIVE_INFINITY : 0),
  receivedElements: () => 0,
  place: (batch, memory, setup) => new GatherReduceCombine(memory.apart(batch), setup, memory.sums(batch)),
  resultDtypes: (dtype) => [dtype],
  reduce: (partial, setup, out, lse) => new GatherReduceCombine(partial, setup, undefined).combine(out, lse),
};

class GatherReduceCombine implements PlacedCombine {
  readonly name = "ag-rs";
  readonly place = "heap";
  readonly out: Tensor;
  readonly lse: Tensor;
  readonly #setup: CombineSetup;
  /** True when every rank's own heads are a chunk of the DCP group's. */
  readonly #scatters: boolean;
  /** Where sums are made that are rounded afterwards. */
  readonly #sums: Tensor | undefined;

  constructor({ out, lse }: PartialResults, setup: CombineSetup, sums: Tensor | undefined) {
    this.out = out;
    this.lse = lse;
    this.#setup = setup;
    this.#scatters = sameRanks(setup.dcpGroup, setup.queryGroup);
    this.#sums = sums;
  }

  async combine(out: Tensor, lse: Tensor | undefined, via: CombineCollectives = this.#setup.dcpGroup): Promise<void> {
    if (this.#sums === undefined || out.dtype === this.#sums.dtype) return this.#reduce(out, lse, via);
    await this.#reduce(this.#sums, lse, via);
    out.copyFrom(this.#sums);
  }

  /** @param out of the partial output's dtype */
  async #reduce(out: Tensor, lse: Tensor | undefined, via: CombineCollectives): Promise<void> {
    const { backend, dcpGroup, base, nonFinite, own, allocator, deadlineMs } = this.#setup;
    const partialOut = this.out;
    const [batch = 0, heads = 0] = partialOut.shape;
    const lses = Tensor.empty(allocator, "f32", [dcpGroup.size, batch, heads]);
    const globalLse = Tensor.empty(allocator, "f32", [batch, heads]);
    try {
      const gathering = via.allGather(this.lse.unsqueeze(0), lses, { dim: 0, deadlineMs });
      if (gathering instanceof Promise) await gathering;
      await dcpCorrectAttnOut(backend, partialOut, lses, dcpGroup.rank, { base, nonFinite, lse: globalLse });
      const summing = this.#scatters
        ? via.reduceScatter(partialOut, out, { dim: 1, deadlineMs })
        : via.allReduce(partialOut, partialOut, { deadlineMs });
      if (summing instanceof Promise) await summing;
      if (!this.#scatters) out.copyFrom(partialOut.slice(1, own.start, own.end));
      if (out.dtype === "f32") clearNegativeZeros(out);
      lse?.copyFrom(globalLse.slice(1, own.start, own.end));
    } finally {
      globalLse.free();
      lses.free();
    }
  }
}

const NEGATIVE_ZERO_BITS = 1 << 31;

/** -0 becomes 0, as in a merge, whose sums start from 0: so that the ways to combine agree in every bit. */
function clearNegativeZeros(out: Tensor): void {
  const { buffer, byteOffset, length } = out.elements;
  const bits = new Int32Array(buffer, byteOffset, length);
  if (out.isContiguous) {
    for (let at = 0; at < bits.length; at++) if (bits[at] === NEGATIVE_ZERO_BITS) bits[at] = 0;
    return;
  }
  forEachOffset(out.shape, out.strides, (at) => {
    if (bits[at] === NEGATIVE_ZERO_BITS) bits[at] = 0;
  });
}
