import type { ProcessGroup } from "@lockstep/dist-groups";
import { type SharedHeap, Tensor } from "@lockstep/tensor";
import type { RotaryTurns } from "../layers/layers.ts";
import { type Activations, type AllActivations, firstRows, openActivations } from "./activations.ts";
import { ropeTurns } from "./rope-scaling.ts";
import { type GatheredColumns, gatherColumns, joinWords } from "./gathered-columns.ts";
import type { StepAttention, StepTokens } from "./step-attention.ts";
import { MOST_RECORDED_TOKENS, StepLayers, type StepLayersParts } from "./step-layers.ts";
import { lengthOf } from "./tensor-parallel.ts";

/** What a rank needs to run a model. */
export interface TransformerParts extends StepLayersParts {
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

/**
 * A decoder-only transformer on one rank of a tensor-parallel world: Q, K, V and O split by heads, the MLP by columns,
 * the vocabulary by rows. The residual stream is the same on every rank, bit for bit: partial sums are all-reduced in
 * rank order. With a share that is world-invariant ({@link OutputShare}) O and the MLP's last matrix are split by rows
 * instead: ranks gather what goes into them and what comes out, so that every number is one product of whole rows, the
 * same on any number of ranks.
 */
export class Transformer {
  readonly #parts: TransformerParts;
  readonly #turns: RotaryTurns;
  readonly #full: AllActivations;
  readonly #logits: Tensor;
  /** Those of steps of few tokens, which are recorded; there are no more than {@link MOST_RECORDED_TOKENS}. */
  readonly #recorded = new Map<number, StepLayers>();

  constructor(parts: TransformerParts) {
    const { config, share, ownHeap, maxStepTokens, maxLogitRows } = parts;
    this.#parts = parts;
    const { frequencies, amplitude } = ropeTurns(config.ropeTheta, config.headDim / 2, config.ropeScaling);
    this.#turns = {
      frequencies: Tensor.from(ownHeap, "f32", [frequencies.length], frequencies),
      amplitude: Tensor.empty(ownHeap, "i32", [2]),
    };
    const { buffer, byteOffset } = this.#turns.amplitude.i32;
    new Float64Array(buffer, byteOffset, 1)[0] = amplitude;
    this.#full = openActivations(config, share, maxStepTokens, parts);
    this.#logits = Tensor.empty(ownHeap, "f32", [maxLogitRows, lengthOf(share.vocabulary)]);
  }

  /**
   * Appends tokens to sequences, all in one pass, and computes the logits of those that are asked for.
   * @param items from 1 to maxStepTokens token ids over all sequences
   * @returns logits for this rank's rows of the vocabulary [rows, vocabulary rows], in the order of the items; valid
   *   until the next pass
   */
  async forward(attention: StepAttention, items: readonly StepTokens[]): Promise<Tensor> {
    let tokens = 0;
    let wanted = 0;
    for (const { ids, logits } of items) {
      tokens += ids.length;
      wanted += logits;
    }
    const step = this.#stepOf(tokens);
    try {
      await this.#computeLayers(attention, items, step);
    } catch (error) {
      // What comes next finds no step under way.
      attention.cancel();
      throw error;
    }
    if (wanted < tokens || step.logits === undefined) return this.#someLogits(items, step.step, wanted);
    step.allLogits();
    return step.logits;
  }

  /** Embeds a step's tokens and takes them through all layers: `hidden`. */
  async #computeLayers(attention: StepAttention, items: readonly StepTokens[], layers: StepLayers): Promise<void> {
    const { step, decoder } = layers;
    const positions = attention.begin(items);
    const ids = step.ids.i32;
    let at = 0;
    for (const item of items) for (const id of item.ids) ids[at++] = id;
    step.positions.i32.set(positions);
    layers.embed();
    this.#joinEmbedded(step);
    for (let index = 0; index < decoder.length; index++) {
      const layer = decoder[index];
      if (layer === undefined) break;
      layer.attentionInputs();
      const attending = attention.forward(index, step.query, step.key, step.value, step.attended);
      if (attending !== undefined) await attending;
      this.#gather(step.gathered?.attended);
      layer.attentionOutput();
      this.#completeDelta(step);
      layer.feedForward();
      this.#gather(step.gathered?.gate);
      layer.feedForwardOutput?.();
      this.#completeDelta(step);
    }
    layers.finish();
    attention.end();
  }

  /** The logits of some of a step's rows. */
  #someLogits(items: readonly StepTokens[], step: Activations, wanted: number): Tensor {
    const { config, weights, layers } = this.#parts;
    const logits = this.#logits.slice(0, 0, wanted);
    let row = 0;
    let count = 0;
    for (const item of items) {
      for (let own = 0; own < item.ids.length; own++, row++) {
        if (own < item.ids.length - item.logits) continue;
        const normed = step.normed.slice(0, count, count + 1);
        layers.rmsNorm(step.hidden.slice(0, row, row + 1), weights.finalNorm, normed, config.normEpsilon);
        count++;
      }
    }
    if (count > 0) layers.linear(step.normed.slice(0, 0, count), weights.output, logits);
    return logits;
  }

  /** The embedded tokens, of which each rank has looked up those of its vocabulary. */
  #joinEmbedded(step: Activations): void {
    const { hidden, exchanged, words, gathered } = step;
    if (gathered === undefined) {
      this.#sumOverRanks(hidden, step);
      return;
    }
    exchanged?.copyFrom(hidden);
    joinWords(this.#parts.world, words);
    if (exchanged !== undefined) hidden.copyFrom(exchanged);
  }

  /** A layer's whole output: the sum of all ranks' or, where they gather, what each has of it. */
  #completeDelta(step: Activations): void {
    if (step.gathered === undefined) this.#sumOverRanks(step.delta, step);
    else this.#gather(step.gathered.delta);
  }

  #gather(columns: GatheredColumns | undefined): void {
    if (columns !== undefined) gatherColumns(this.#parts.world, columns);
  }

  /** Sums rows [T, hidden] over all ranks, in rank order, in place. */
  #sumOverRanks(rows: Tensor, { exchanged }: Activations): void {
    const { world } = this.#parts;
    if (world.size === 1) return;
    if (exchanged === undefined) {
      world.allReduce(rows, rows);
      return;
    }
    exchanged.copyFrom(rows);
    world.allReduce(exchanged, exchanged);
    rows.copyFrom(exchanged);
  }

  /** The layers of a step of so many tokens. */
  #stepOf(tokens: number): StepLayers {
    const known = this.#recorded.get(tokens);
    if (known !== undefined) return known;
    const logits = tokens <= this.#logits.dim(0) ? this.#logits.slice(0, 0, tokens) : undefined;
    const made = new StepLayers(this.#parts, this.#turns, firstRows(this.#full, tokens), logits);
    if (tokens <= MOST_RECORDED_TOKENS) this.#recorded.set(tokens, made);
    return made;
  }
}
