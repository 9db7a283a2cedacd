// A token drawn from one whole row of logits.
//
// Order of what changes the probabilities, as in vLLM (V1): temperature, min-p, top-k, top-p; each cut looks at what
// the one before it left. (Transformers cuts by min-p last, llama.cpp takes the temperature last.) Sums are made in
// float64, in the order of ids or, where top-p adds up the likeliest tokens, in theirs: the same bits everywhere.
import { exponential } from "./exponential.ts";
import type { LikeliestTokens } from "./likeliest-tokens.ts";
import type { Sampling } from "./sampling-options.ts";
import { WeightHistogram } from "./weight-histogram.ts";

/** Tokens that top-p looks at first. */
const FIRST_CANDIDATES = 64;

/** Memory to draw tokens in. */
export class TokenDraw {
  readonly #likeliest: LikeliestTokens;
  /** By id: a token's probability over that of the likeliest; 0 for what min-p cut. */
  readonly #weights: Float64Array;
  readonly #histogram = new WeightHistogram();
  /** Ids that are left, in their order. */
  readonly #left: Int32Array;

  /** @param likeliest memory to select in, of as many tokens */
  constructor(vocabularySize: number, likeliest: LikeliestTokens) {
    this.#likeliest = likeliest;
    this.#weights = new Float64Array(vocabularySize);
    this.#left = new Int32Array(vocabularySize);
  }

  /**
   * The token that chance falls on.
   * @param logits [vocabulary size], all finite
   * @param most the largest of them
   * @param sampling of a temperature above 0
   * @param chance in [0, 1)
   */
  draw(logits: Float32Array, most: number, sampling: Sampling, chance: number): number {
    const { topK, topP } = sampling;
    if (topK === 0 || topK >= logits.length) {
      const total = this.#weighAll(logits, most, sampling);
      return this.#drawAny(topP < 1 ? this.#cutAll(logits, topP * total) : total, chance);
    }
    this.#likeliest.find(logits, topK);
    const count = this.#weighLikeliest(logits, most, sampling);
    return this.#drawLeft(topP < 1 ? this.#countReaching(topP * this.#sumLeft(count), count).count : count, chance);
  }

  /** Weighs all tokens; returns their sum. */
  #weighAll(logits: Float32Array, most: number, { temperature, minP }: Sampling): number {
    const weights = this.#weights;
    let total = 0;
    for (let id = 0; id < logits.length; id++) {
      const weight = exponential(((logits[id] ?? Number.NaN) - most) / temperature);
      const left = weight < minP ? 0 : weight;
      weights[id] = left;
      total += left;
    }
    return total;
  }

  /** Weighs the likeliest tokens; returns how many of them min-p leaves. */
  #weighLikeliest(logits: Float32Array, most: number, { temperature, minP }: Sampling): number {
    const { ids, count } = this.#likeliest;
    for (let at = 0; at < count; at++) {
      const id = ids[at] ?? 0;
      const weight = exponential(((logits[id] ?? Number.NaN) - most) / temperature);
      if (weight < minP) return at;
      this.#weights[id] = weight;
    }
    return count;
  }

  /** Leaves the fewest likeliest tokens that reach a sum of weights; returns the sum of theirs. */
  #cutAll(logits: Float32Array, wanted: number): number {
    const { ids } = this.#likeliest;
    const lastId = ids[this.#findReaching(logits, wanted) - 1] ?? 0;
    const last = logits[lastId] ?? Number.NaN;
    const weights = this.#weights;
    let total = 0;
    for (let id = 0; id < logits.length; id++) {
      const logit = logits[id] ?? Number.NaN;
      if (logit > last || (logit === last && id <= lastId)) total += weights[id] ?? 0;
      else weights[id] = 0;
    }
    return total;
  }

  /** Finds likeliest tokens until they reach a sum of weights; returns how many of them do. */
  #findReaching(logits: Float32Array, wanted: number): number {
    for (let attempt = 0; ; attempt++) {
      this.#likeliest.find(logits, this.#candidates(attempt, wanted));
      const { count: found } = this.#likeliest;
      const { count, isReached } = this.#countReaching(wanted, found);
      if (isReached || count < found || found === logits.length) return count;
    }
  }

  /** How many tokens to look at: few, then as many as there have to be, then, where sums are rounded otherwise, all. */
  #candidates(attempt: number, wanted: number): number {
    if (attempt === 0) return FIRST_CANDIDATES;
    return attempt === 1 ? this.#histogram.countReaching(this.#weights, wanted) : this.#weights.length;
  }

  /** How many of the first `found` likeliest tokens it takes to reach a sum of weights; all, if they do not. */
  #countReaching(wanted: number, found: number): { readonly count: number; readonly isReached: boolean } {
    const { ids } = this.#likeliest;
    let sum = 0;
    for (let at = 0; at < found; at++) {
      const weight = this.#weights[ids[at] ?? 0] ?? 0;
      if (weight === 0) return { count: at, isReached: false };
      sum += weight;
      if (sum >= wanted) return { count: at + 1, isReached: true };
    }
    return { count: found, isReached: false };
  }

  /** The sum of the weights of the first `count` likeliest tokens, whose ids are put in order. */
  #sumLeft(count: number): number {
    const left = this.#left.subarray(0, count);
    left.set(this.#likeliest.ids.subarray(0, count));
    left.sort();
    let sum = 0;
    for (let at = 0; at < count; at++) sum += this.#weights[left[at] ?? 0] ?? 0;
    return sum;
  }

  /** One of the first `count` likeliest tokens. */
  #drawLeft(count: number, chance: number): number {
    const wanted = chance * this.#sumLeft(count);
    let sum = 0;
    let at = -1;
    // As chance is below 1, `wanted` is below the sum of all.
    do sum += this.#weights[this.#left[++at] ?? -1] ?? Number.NaN;
    while (sum <= wanted);
    return this.#left[at] ?? -1;
  }

  /** One of all tokens, whose weights have this sum. */
  #drawAny(total: number, chance: number): number {
    const wanted = chance * total;
    let sum = 0;
    let id = -1;
    do sum += this.#weights[++id] ?? Number.NaN;
    while (sum <= wanted);
    return id;
  }
}
