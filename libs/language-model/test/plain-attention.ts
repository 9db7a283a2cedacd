// Attention as plain loops over keys and values that every rank keeps whole: the same bits on any number of ranks.
import type { ModelConfig } from "../src/model/config.ts";
import type { StepAttention, StepTokens } from "../src/model/step-attention.ts";
import { lengthOf, type RankShare } from "../src/model/tensor-parallel.ts";

/** Keys and values of a text, for each layer those of one position after another. */
type Cached = { readonly key: Float32Array[]; readonly value: Float32Array[] }[];

/** Texts of one rank: all tokens of the KV heads that it stores. */
export class PlainAttention {
  readonly #config: ModelConfig;
  readonly #share: RankShare;
  readonly #texts = new Map<number, Cached>();
  #next = 0;

  constructor(config: ModelConfig, share: RankShare) {
    this.#config = config;
    this.#share = share;
  }

  createSequence(): number {
    this.#texts.set(
      this.#next,
      Array.from({ length: this.#config.layers }, () => ({ key: [], value: [] })),
    );
    return this.#next++;
  }

  forkSequence(from: number): number {
    const to = this.createSequence();
    this.#texts.set(
      to,
      this.#text(from).map(({ key, value }) => ({ key: [...key], value: [...value] })),
    );
    return to;
  }

  freeSequence(sequence: number): void {
    this.#texts.delete(sequence);
  }

  truncateSequence(sequence: number, length: number): void {
    for (const { key, value } of this.#text(sequence)) {
      key.length = length;
      value.length = length;
    }
  }

  sequenceLength(sequence: number): number {
    return this.#text(sequence)[0]?.key.length ?? 0;
  }

  step(): StepAttention {
    let rows: { readonly sequence: number; readonly position: number }[] = [];
    return {
      begin: (items: readonly StepTokens[]) => {
        rows = items.flatMap(({ sequence, ids }) => {
          const before = this.sequenceLength(sequence);
          return ids.map((_, index) => ({ sequence, position: before + index }));
        });
        return rows.map(({ position }) => position);
      },
      forward: (layer, query, key, value, out) => {
        const { headDim } = this.#config;
        for (const [row, { sequence, position }] of rows.entries()) {
          const cached = this.#text(sequence)[layer] ?? { key: [], value: [] };
          cached.key[position] = Float32Array.from(key.select(0, row).toNumbers());
          cached.value[position] = Float32Array.from(value.select(0, row).toNumbers());
        }
        const [queries, results] = [query.f32, out.f32];
        const heads = lengthOf(this.#share.queryHeads);
        for (const [row, { sequence, position }] of rows.entries()) {
          const cached = this.#text(sequence)[layer] ?? { key: [], value: [] };
          for (let head = 0; head < heads; head++) {
            const at = (row * heads + head) * headDim;
            const own = queries.subarray(at, at + headDim);
            results.set(this.#attend(own, cached, position, head), at);
          }
        }
        return undefined;
      },
      end: () => {},
      cancel: () => {},
    };
  }

  /** What one head of a query sees, in float64. */
  #attend(query: Float32Array, { key, value }: Cached[number], position: number, head: number): Float64Array {
    const { headDim, queryHeads, kvHeads } = this.#config;
    const kvHead = Math.floor(((this.#share.queryHeads.start + head) * kvHeads) / queryHeads);
    const from = (kvHead - this.#share.kvHeads.start) * headDim;
    const scores = key.slice(0, position + 1).map((row) => {
      let sum = 0;
      for (let i = 0; i < headDim; i++) sum += (query[i] ?? 0) * (row[from + i] ?? 0);
      return sum / Math.sqrt(headDim);
    });
    const most = Math.max(...scores);
    const out = new Float64Array(headDim);
    let total = 0;
    for (const [index, score] of scores.entries()) {
      const weight = Math.exp(score - most);
      total += weight;
      for (let i = 0; i < headDim; i++) out[i] = (out[i] ?? 0) + weight * (value[index]?.[from + i] ?? 0);
    }
    return out.map((sum) => sum / total);
  }

  #text(sequence: number): Cached {
    const cached = this.#texts.get(sequence);
    if (cached === undefined) throw new RangeError(`there is no text ${sequence}`);
    return cached;
  }
}
