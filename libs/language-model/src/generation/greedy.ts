import type { ProcessGroup } from "@lockstep/dist-groups";
import { type SharedHeap, Tensor } from "@lockstep/tensor";
import type { Layers } from "../layers/layers.ts";

/** What a choice of some number of rows uses: made once for each number, so that the collective knows its tensors. */
interface Choice {
  /**
   * For each row this rank's best logit and its token id [1, rows, 2] f32 (ids are exact up to 2^24): NaN for a row
   * with a logit that is not finite, -inf for a rank without logits.
   */
  readonly own: Tensor;
  readonly ownValues: Float32Array;
  /** Every rank's [n, rows, 2]. */
  readonly all: Tensor;
  readonly allValues: Float32Array;
}

/** Greedy sampling over a vocabulary split over ranks: every rank finds the same tokens. */
export class GreedySampler {
  readonly #layers: Layers;
  readonly #world: ProcessGroup;
  readonly #firstId: number;
  readonly #own: Tensor;
  readonly #all: Tensor;
  /** By the number of rows. */
  readonly #choices = new Map<number, Choice>();

  /** `firstId` is the token id of the first of this rank's logits; `maxRows` the most rows of one choice. */
  constructor(layers: Layers, world: ProcessGroup, heap: SharedHeap, firstId: number, maxRows: number) {
    this.#layers = layers;
    this.#world = world;
    this.#firstId = firstId;
    this.#own = Tensor.empty(heap, "f32", [maxRows * 2]);
    this.#all = world.size === 1 ? this.#own : Tensor.empty(heap, "f32", [world.size * maxRows * 2]);
  }

  /**
   * The token ids of the largest logits [rows, vocabulary rows] of each row over all ranks, the lowest id among equals.
   * One exchange for all rows.
   * @throws Error on every rank, when a logit of any rank is NaN or infinite
   */
  choose(logits: Tensor): number[] {
    const [rows = 0, width = 0] = logits.shape;
    if (rows === 0) return [];
    const { own, ownValues, all, allValues } = this.#choiceOf(rows);
    const none = width === 0 ? Number.NEGATIVE_INFINITY : Number.NaN;
    const values = logits.f32;
    for (let row = 0; row < rows; row++) {
      const index = this.#layers.argmax(logits, row);
      ownValues[2 * row] = index < 0 ? none : (values[row * width + index] ?? none);
      ownValues[2 * row + 1] = this.#firstId + index;
    }
    if (all !== own) this.#world.allGather(own, all, { dim: 0 });
    const tokens: number[] = [];
    for (let row = 0; row < rows; row++) tokens.push(best(allValues, row, rows, this.#world.size));
    return tokens;
  }

  #choiceOf(rows: number): Choice {
    const known = this.#choices.get(rows);
    if (known !== undefined) return known;
    const { size } = this.#world;
    const own = this.#own.slice(0, 0, rows * 2).reshape([1, rows, 2]);
    const all = size === 1 ? own : this.#all.slice(0, 0, size * rows * 2).reshape([size, rows, 2]);
    const made = { own, ownValues: own.f32, all, allValues: all.f32 };
    this.#choices.set(rows, made);
    return made;
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
