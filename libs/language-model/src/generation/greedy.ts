import type { ProcessGroup } from "@lockstep/dist-groups";
import { type SharedHeap, Tensor } from "@lockstep/tensor";
import type { Layers } from "../layers/layers.ts";

/** Greedy sampling over a vocabulary split over ranks: every rank finds the same tokens. */
export class GreedySampler {
  readonly #layers: Layers;
  readonly #world: ProcessGroup;
  readonly #firstId: number;
  /**
   * For each row this rank's best logit and its token id [1, rows, 2] f32 (ids are exact up to 2^24): NaN for a row
   * with a logit that is not finite, -inf for a rank without logits.
   */
  readonly #own: Tensor;
  /** Every rank's [n, rows, 2]. */
  readonly #all: Tensor;

  /** `firstId` is the token id of the first of this rank's logits; `maxRows` the most rows of one choice. */
  constructor(layers: Layers, world: ProcessGroup, heap: SharedHeap, firstId: number, maxRows: number) {
    this.#layers = layers;
    this.#world = world;
    this.#firstId = firstId;
    this.#own = Tensor.empty(heap, "f32", [maxRows * 2]);
    this.#all = Tensor.empty(heap, "f32", [world.size * maxRows * 2]);
  }

  /**
   * The token ids of the largest logits of each row over all ranks, the lowest id among equals. One exchange for all
   * rows.
   * @throws Error on every rank, when a logit of any rank is NaN or infinite
   */
  choose(logits: Tensor): number[] {
    const rows = logits.dim(0);
    if (rows === 0) return [];
    const { size } = this.#world;
    const own = this.#own.slice(0, 0, rows * 2).reshape([1, rows, 2]);
    const gathered = this.#all.slice(0, 0, size * rows * 2).reshape([size, rows, 2]);
    for (let row = 0; row < rows; row++) {
      const values = logits.select(0, row);
      const index = this.#layers.argmax(values);
      const none = values.size === 0 ? Number.NEGATIVE_INFINITY : Number.NaN;
      own.f32.set([values.f32[index] ?? none, this.#firstId + index], 2 * row);
    }
    this.#world.allGather(own, gathered, { dim: 0 });
    return Array.from({ length: rows }, (_, row) => best(gathered.f32, row, rows, size));
  }
}

function best(all: Float32Array, row: number, rows: number, ranks: number): number {
  let token = -1;
  let most = Number.NEGATIVE_INFINITY;
  for (let rank = 0; rank < ranks; rank++) {
    const at = 2 * (rank * rows + row);
    const logit = all[at] ?? Number.NaN;
    if (Number.isNaN(logit)) throw notFinite();
    if (logit > most) {
      most = logit;
      token = all[at + 1] ?? -1;
    }
  }
  if (token < 0) throw notFinite();
  return token;
}

function notFinite(): Error {
  return new Error("the model's logits are not finite numbers: its weights or KV cache are damaged");
}
