import { headRange, type ProcessGroup } from "@lockstep/dist-groups";
import { Arena, Tensor } from "@lockstep/tensor";
import { type CombineArgs, sameRanks } from "./combine.ts";

/**
 * The tensors of one-shot exchanges of one size, made once: rows of partial outputs with their LSEs behind them, and where the
 * peers' arrive. Groups that are the same ranks send each peer its own heads (all-to-all); else every rank gets all heads of
 * every rank (all-gather), since a rank cannot know which of them its DCP peers own.
 */
export class OneShotExchange {
  /** This rank's partial outputs [B, H, D] and LSEs [B, H], as views of rows of D + 1. */
  readonly out: Tensor;
  readonly lse: Tensor;
  readonly #group: ProcessGroup;
  readonly #packed: Tensor;
  readonly #inputs: readonly Tensor[] | undefined;
  readonly #outputs: readonly Tensor[];
  readonly #received: Tensor;
  readonly #outs: readonly Tensor[];
  readonly #lses: readonly Tensor[];

  /**
   * @param packed [B, H, D + 1], f32
   * @param received f32, one-dimensional, of at least {@link OneShotExchange.receivedElements}
   */
  constructor(packed: Tensor, received: Tensor, dcpGroup: ProcessGroup, queryGroup: ProcessGroup) {
    const [batch = 0, heads = 0, width = 1] = packed.shape;
    const { size } = dcpGroup;
    const own = headRange(heads, queryGroup.rank, queryGroup.size);
    const direct = sameRanks(dcpGroup, queryGroup);
    const arriving = direct ? own.count : heads;
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

  /** f32 elements that arrive at this rank, for B rows of H heads of `width` = D + 1. */
  static receivedElements(
    batch: number,
    heads: number,
    width: number,
    dcpGroup: ProcessGroup,
    queryGroup: ProcessGroup,
  ): number {
    const own = headRange(heads, queryGroup.rank, queryGroup.size);
    return dcpGroup.size * batch * width * (sameRanks(dcpGroup, queryGroup) ? own.count : heads);
  }

  /** Exchanges what {@link OneShotExchange.out} and lse hold, and merges this rank's heads into `out` and `lse`. */
  async combine({ backend, base, nonFinite, out, lse, deadlineMs }: CombineArgs): Promise<void> {
    if (this.#inputs === undefined) this.#group.allGather(this.#packed, this.#received, { dim: 0, deadlineMs });
    else this.#group.allToAll(this.#inputs, this.#outputs, { deadlineMs });
    const merged = lse === undefined ? { base, nonFinite, out } : { base, nonFinite, out, lse };
    await backend.mergeAttnStates({ outs: this.#outs, lses: this.#lses, ...merged });
  }
}

/** Packs outputs and LSEs, exchanges them once and merges. */
export async function combineOneShot(args: CombineArgs): Promise<void> {
  const { attnOut, attnLse, dcpGroup, queryGroup, allocator } = args;
  const [batch = 0, heads = 0, headDim = 0] = attnOut.shape;
  const width = headDim + 1;
  const elements = OneShotExchange.receivedElements(batch, heads, width, dcpGroup, queryGroup);
  const scratch = new Arena(allocator.heap, (batch * heads * width + elements) * 4 + 512);
  try {
    const packed = Tensor.empty(scratch, "f32", [batch, heads, width]);
    const exchange = new OneShotExchange(packed, Tensor.empty(scratch, "f32", [elements]), dcpGroup, queryGroup);
    exchange.out.copyFrom(attnOut);
    exchange.lse.copyFrom(attnLse);
    await exchange.combine(args);
  } finally {
    scratch.close();
  }
}
