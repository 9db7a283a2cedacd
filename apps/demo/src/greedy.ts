import type { ProcessGroup } from "@lockstep/dist-groups";
import { type SharedHeap, Tensor } from "@lockstep/tensor";
import type { Layers } from "./layers/layers.ts";

/** Greedy sampling over a vocabulary split over ranks: every rank finds the same token. */
export class GreedySampler {
  readonly #layers: Layers;
  readonly #world: ProcessGroup;
  readonly #firstId: number;
  /** This rank's best logit and its token id [1, 2] f32 (ids are exact up to 2^24). */
  readonly #own: Tensor;
  /** Every rank's [n, 2]. */
  readonly #all: Tensor;

  /** `firstId` is the token id of the first of this rank's logits. */
  constructor(layers: Layers, world: ProcessGroup, heap: SharedHeap, firstId: number) {
    this.#layers = layers;
    this.#world = world;
    this.#firstId = firstId;
    this.#own = Tensor.empty(heap, "f32", [1, 2]);
    this.#all = Tensor.empty(heap, "f32", [world.size, 2]);
  }

  /** The token id of the largest logit over all ranks, the lowest id among equals. */
  choose(logits: Tensor): number {
    const index = this.#layers.argmax(logits);
    this.#own.f32.set([logits.f32[index] ?? Number.NaN, this.#firstId + index]);
    this.#world.allGather(this.#own, this.#all, { dim: 0 });
    const all = this.#all.f32;
    let token = -1;
    let most = Number.NEGATIVE_INFINITY;
    for (let rank = 0; rank < this.#world.size; rank++) {
      const logit = all[2 * rank] ?? Number.NaN;
      if (logit > most) {
        most = logit;
        token = all[2 * rank + 1] ?? -1;
      }
    }
    if (token < 0) throw new Error("the model's logits are not finite numbers: its weights or KV cache are damaged");
    return token;
  }
}
