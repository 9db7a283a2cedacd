import type { ProcessGroup } from "@lockstep/dist-groups";
import { type SharedHeap, Tensor } from "@lockstep/tensor";
import type { ModelConfig } from "./config.ts";
import type { Layers } from "../layers/layers.ts";
import { fillRotations } from "./rope-angles.ts";
import { type RopeTurns, ropeTurns } from "./rope-scaling.ts";
import type { StepAttention, StepTokens } from "./step-attention.ts";
import { lengthOf, type RankShare } from "./tensor-parallel.ts";
import type { LayerWeights, ModelWeights } from "./weights.ts";

/** What a rank needs to run a model. */
export interface TransformerParts {
  readonly config: ModelConfig;
  readonly share: RankShare;
  readonly weights: ModelWeights;
  readonly layers: Layers;
  /** Every rank: the tensor-parallel group. */
  readonly world: ProcessGroup;
  /** What peers reach: sums over ranks are made here. */
  readonly heap: SharedHeap;
  /** Where weights and activations lie, and `layers` computes; may be `heap`'s memory. */
  readonly ownHeap: SharedHeap;
  /** Most tokens of one forward pass. */
  readonly maxStepTokens: number;
  /** Most tokens of one forward pass whose logits are wanted. */
  readonly maxLogitRows: number;
}

/** Activations of T tokens; heads and columns are this rank's. */
interface Activations {
  /** Token ids [T], i32. */
  readonly ids: Tensor;
  /** The residual stream [T, hidden]. */
  readonly hidden: Tensor;
  /** Its normalised form, and a layer's partial or summed output [T, hidden]. */
  readonly normed: Tensor;
  readonly delta: Tensor;
  /** [T, heads, D] */
  readonly query: Tensor;
  readonly key: Tensor;
  readonly value: Tensor;
  readonly attended: Tensor;
  /** [T, columns] */
  readonly gate: Tensor;
  readonly up: Tensor;
  /** [T, D / 2] */
  readonly cosines: Tensor;
  readonly sines: Tensor;
  /** Rows on their way through an all-reduce [T, hidden], where peers reach them; undefined where they reach all. */
  readonly exchanged: Tensor | undefined;
}

/**
 * A decoder-only transformer on one rank of a tensor-parallel world: Q, K, V and O split by heads, the MLP by columns,
 * the vocabulary by rows. The residual stream is the same on every rank, bit for bit: partial sums are all-reduced in
 * rank order.
 */
export class Transformer {
  readonly #parts: TransformerParts;
  readonly #turns: RopeTurns;
  readonly #full: Activations;
  readonly #cut = new Map<number, Activations>();
  readonly #logits: Tensor;

  constructor(parts: TransformerParts) {
    const { config, share, heap, ownHeap, maxStepTokens, maxLogitRows } = parts;
    this.#parts = parts;
    this.#turns = ropeTurns(config.ropeTheta, config.headDim / 2, config.ropeScaling);
    const rows = (...shape: number[]): Tensor => Tensor.empty(ownHeap, "f32", [maxStepTokens, ...shape]);
    const heads = lengthOf(share.queryHeads);
    const kvHeads = lengthOf(share.kvHeads);
    const columns = lengthOf(share.intermediate);
    this.#full = {
      ids: Tensor.empty(ownHeap, "i32", [maxStepTokens]),
      hidden: rows(config.hiddenSize),
      normed: rows(config.hiddenSize),
      delta: rows(config.hiddenSize),
      query: rows(heads, config.headDim),
      key: rows(kvHeads, config.headDim),
      value: rows(kvHeads, config.headDim),
      attended: rows(heads, config.headDim),
      gate: rows(columns),
      up: rows(columns),
      cosines: rows(config.headDim / 2),
      sines: rows(config.headDim / 2),
      exchanged: ownHeap.id === heap.id ? undefined : Tensor.empty(heap, "f32", [maxStepTokens, config.hiddenSize]),
    };
    this.#logits = Tensor.empty(ownHeap, "f32", [maxLogitRows, lengthOf(share.vocabulary)]);
  }

  /**
   * Appends tokens to sequences, all in one pass, and computes the logits of those that are asked for.
   * @param items from 1 to maxStepTokens token ids over all sequences
   * @returns logits for this rank's rows of the vocabulary [rows, vocabulary rows], in the order of the items; valid
   *   until the next pass
   */
  async forward(attention: StepAttention, items: readonly StepTokens[]): Promise<Tensor> {
    const { config, weights, layers } = this.#parts;
    const ids = items.flatMap((item) => item.ids);
    const step = this.#activations(ids.length);
    try {
      await this.#computeLayers(attention, items, ids, step);
    } catch (error) {
      // What comes next finds no step under way.
      attention.cancel();
      throw error;
    }

    const wanted = items.flatMap(({ ids: own, logits }) => own.map((_, at) => at >= own.length - logits));
    let count = 0;
    for (const [row, isWanted] of wanted.entries()) {
      if (!isWanted) continue;
      const normed = step.normed.slice(0, count, count + 1);
      layers.rmsNorm(step.hidden.slice(0, row, row + 1), weights.finalNorm, normed, config.normEpsilon);
      count++;
    }
    const logits = this.#logits.slice(0, 0, count);
    if (count > 0) layers.linear(step.normed.slice(0, 0, count), weights.output, logits);
    return logits;
  }

  /** Embeds a step's tokens and takes them through all layers: `step.hidden`. */
  async #computeLayers(
    attention: StepAttention,
    items: readonly StepTokens[],
    ids: readonly number[],
    step: Activations,
  ): Promise<void> {
    const { weights, layers, share } = this.#parts;
    const positions = attention.begin(items);
    step.ids.i32.set(ids);
    fillRotations(step.cosines.f32, step.sines.f32, this.#turns.frequencies, positions, this.#turns.amplitude);
    layers.embed(step.ids, weights.embedding, share.vocabulary.start, step.hidden);
    this.#sumOverRanks(step.hidden, step);
    for (const [index, layer] of weights.layers.entries()) {
      await this.#attend(attention, index, layer, step);
      this.#feedForward(layer, step);
    }
    attention.end();
  }

  /** hidden += O(attention(Q, K, V of the normalised hidden)). */
  async #attend(attention: StepAttention, index: number, weights: LayerWeights, step: Activations): Promise<void> {
    const { config, layers } = this.#parts;
    const { query, key, value, delta } = step;
    layers.rmsNorm(step.hidden, weights.attentionNorm, step.normed, config.normEpsilon);
    layers.linear(step.normed, weights.query, query);
    layers.linear(step.normed, weights.key, key);
    layers.linear(step.normed, weights.value, value);
    if (weights.queryBias !== undefined) layers.addBias(query, weights.queryBias);
    if (weights.keyBias !== undefined) layers.addBias(key, weights.keyBias);
    if (weights.valueBias !== undefined) layers.addBias(value, weights.valueBias);
    if (weights.queryNorm !== undefined) layers.rmsNorm(query, weights.queryNorm, query, config.normEpsilon);
    if (weights.keyNorm !== undefined) layers.rmsNorm(key, weights.keyNorm, key, config.normEpsilon);
    layers.rotate(query, step.cosines, step.sines);
    layers.rotate(key, step.cosines, step.sines);
    await attention.forward(index, query, key, value, step.attended);
    layers.linear(step.attended, weights.attentionOutput, delta);
    this.#sumOverRanks(delta, step);
    // Once, after the sum: every rank adds the whole bias.
    if (weights.attentionOutputBias !== undefined) layers.addBias(delta, weights.attentionOutputBias);
    layers.addInto(step.hidden, delta);
  }

  /** hidden += down(silu(gate) * up of the normalised hidden). */
  #feedForward(weights: LayerWeights, step: Activations): void {
    const { config, layers } = this.#parts;
    layers.rmsNorm(step.hidden, weights.mlpNorm, step.normed, config.normEpsilon);
    layers.linear(step.normed, weights.gate, step.gate);
    layers.linear(step.normed, weights.up, step.up);
    layers.swiGlu(step.gate, step.up, step.gate);
    layers.linear(step.gate, weights.down, step.delta);
    this.#sumOverRanks(step.delta, step);
    layers.addInto(step.hidden, step.delta);
  }

  /** Sums rows [T, hidden] over all ranks, in rank order, in place. */
  #sumOverRanks(rows: Tensor, { exchanged }: Activations): void {
    const { world } = this.#parts;
    if (exchanged === undefined) {
      world.allReduce(rows, rows);
      return;
    }
    exchanged.copyFrom(rows);
    world.allReduce(exchanged, exchanged);
    rows.copyFrom(exchanged);
  }

  /** The first `tokens` rows of every activation; made once for each number of tokens. */
  #activations(tokens: number): Activations {
    const known = this.#cut.get(tokens);
    if (known !== undefined) return known;
    const cut = (tensor: Tensor): Tensor => tensor.slice(0, 0, tokens);
    const { ids, hidden, normed, delta, query, key, value, attended, gate, up, cosines, sines, exchanged } = this.#full;
    const made: Activations = {
      ids: cut(ids),
      hidden: cut(hidden),
      normed: cut(normed),
      delta: cut(delta),
      query: cut(query),
      key: cut(key),
      value: cut(value),
      attended: cut(attended),
      gate: cut(gate),
      up: cut(up),
      cosines: cut(cosines),
      sines: cut(sines),
      exchanged: exchanged === undefined ? undefined : cut(exchanged),
    };
    this.#cut.set(tokens, made);
    return made;
  }
}

/** Bytes of the activations of one rank. */
export function activationBytes(
  config: ModelConfig,
  share: RankShare,
  maxStepTokens: number,
  maxLogitRows: number,
): number {
  const heads = 2 * lengthOf(share.queryHeads) + 2 * lengthOf(share.kvHeads) + 1;
  const row = 1 + 3 * config.hiddenSize + heads * config.headDim + 2 * lengthOf(share.intermediate);
  return 4 * (maxStepTokens * row + maxLogitRows * lengthOf(share.vocabulary)) + 16 * 128;
}
