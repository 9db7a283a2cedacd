import { headRange, type ProcessGroup } from "@lockstep/dist-groups";
import { Arena, Tensor } from "@lockstep/tensor";
import { OUTPUT_DTYPES, sameRanks } from "./combine.ts";
import type { CombineCollectives, CombineSetup, CombineWay, PlacedCombine } from "./combine-way.ts";
import type { PartialResults } from "./partial-memory.ts";

/** `auto` tries it up to this size of a rank's packed partial output: what staging memory holds. */
const AUTO_BYTES = 65536;

/** Rows of partial outputs with their LSEs behind them, exchanged in one round and merged. */
export const ONE_SHOT: CombineWay = {
  // Rows with their LSE behind them are all f32.
  autoRows: ({ heads, valueDim, dtype }) =>
    dtype === "f32" ? Math.floor(AUTO_BYTES / (4 * heads * (valueDim + 1))) : 0,
  receivedElements: (batch, { heads, valueDim }, setup) => receivedElements(batch, heads, valueDim + 1, setup),
  place: (batch, memory, setup) => new OneShotCombine(memory.packed(batch), memory.received, setup),
  resultDtypes: () => OUTPUT_DTYPES,
  reduce: reduceOneShot,
};

/**
 * Groups that are the same ranks send each peer its own heads (all-to-all); else every rank gets all heads of every
 * rank (all-gather), since a rank cannot know which of them its DCP peers own.
 */
class OneShotCombine implements PlacedCombine {
  readonly name = "one-shot";
  readonly place = "heap";
  /** Views of the packed rows. */
  readonly out: Tensor;
  readonly lse: Tensor;
  readonly #setup: CombineSetup;
  readonly #group: ProcessGroup;
  readonly #packed: Tensor;
  readonly #inputs: readonly Tensor[] | undefined;
  readonly #outputs: readonly Tensor[];
  readonly #received: Tensor;
  readonly #outs: readonly Tensor[];
  readonly #lses: readonly Tensor[];

  /**
   * @param packed [B, H, D + 1], f32
   * @param received f32, one-dimensional, of at least the way's receivedElements
   */
  constructor(packed: Tensor, received: Tensor, setup: CombineSetup) {
    const [batch = 0, heads = 0, width = 1] = packed.shape;
    const { dcpGroup, queryGroup, own } = setup;
    const { size } = dcpGroup;
    const direct = sameRanks(dcpGroup, queryGroup);
    const arriving = direct ? own.count : heads;
    this.#setup = setup;
    this.#group = dcpGroup;
    this.#packed = packed.unsqueeze(0);
    this.out = packed.slice(2, 0, width - 1);
    this.lse = packed.select(2, width - 1);
    this.#received = received.slice(0, 0, size * batch * arriving * width).reshape([size, batch, arriving, width]);
    this.#outputs = Array.from({ length: size }, (_, peer) => this.#received.select(0, peer));
    if (direct) {
      this.#inputs = Array.from({ length: size }, (_, peer) => {
        const { start, end } = headRange(heads, peer, size);
        return packed.slice(1, start, end);
      });
    }
    const mine = this.#outputs.map((state) => (direct ? state : state.slice(1, own.start, own.end)));
    this.#outs = mine.map((state) => state.slice(2, 0, width - 1));
    this.#lses = mine.map((state) => state.select(2, width - 1));
  }

  async combine(out: Tensor, lse: Tensor | undefined, via: CombineCollectives = this.#group): Promise<void> {
    const { backend, base, nonFinite, deadlineMs } = this.#setup;
    const arriving =
      this.#inputs === undefined
        ? via.allGather(this.#packed, this.#received, { dim: 0, deadlineMs })
        : via.allToAll(this.#inputs, this.#outputs, { deadlineMs });
    if (arriving instanceof Promise) await arriving;
    const merged = lse === undefined ? { base, nonFinite, out } : { base, nonFinite, out, lse };
    await backend.mergeAttnStates({ outs: this.#outs, lses: this.#lses, ...merged });
  }
}

function receivedElements(batch: number, heads: number, width: number, setup: CombineSetup): number {
  const { dcpGroup, queryGroup, own } = setup;
  return dcpGroup.size * batch * width * (sameRanks(dcpGroup, queryGroup) ? own.count : heads);
}

/** Packs outputs and LSEs first. */
async function reduceOneShot(
  partial: PartialResults,
  setup: CombineSetup,
  out: Tensor,
  lse: Tensor | undefined,
): Promise<void> {
  const [batch = 0, heads = 0, valueDim = 0] = partial.out.shape;
  const width = valueDim + 1;
  const elements = receivedElements(batch, heads, width, setup);
  const scratch = new Arena(setup.allocator.heap, (batch * heads * width + elements) * 4 + 512);
  try {
    const packed = Tensor.empty(scratch, "f32", [batch, heads, width]);
    const exchange = new OneShotCombine(packed, Tensor.empty(scratch, "f32", [elements]), setup);
    exchange.out.copyFrom(partial.out);
    exchange.lse.copyFrom(partial.lse);
    await exchange.combine(out, lse);
  } finally {
    scratch.close();
  }
}
