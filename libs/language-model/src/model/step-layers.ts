import type { Tensor } from "@lockstep/tensor";
import type { LayerProgram } from "../layers/layer-program.ts";
import type { Layers, RotaryTurns } from "../layers/layers.ts";
import type { Activations } from "./activations.ts";
import type { ModelConfig } from "./config.ts";
import type { RankShare } from "./tensor-parallel.ts";
import type { LayerWeights, ModelWeights } from "./weights.ts";

/**
 * Steps of up to so many tokens run from recorded programs: what JavaScript does for each layer costs a step of one
 * token as much as its smallest layers do, and nothing beside hundreds of tokens.
 */
export const MOST_RECORDED_TOKENS = 16;

/** What a step's layers are made of. */
export interface StepLayersParts {
  readonly config: ModelConfig;
  readonly share: RankShare;
  readonly weights: ModelWeights;
  readonly layers: Layers;
  /** Runs a recorded program; for profiles. Default: all of it at once. */
  readonly runProgram?: ((program: LayerProgram) => void) | undefined;
}

/** Layers between two exchanges with other ranks. */
type Segment = () => void;

/** What a decoder layer computes besides attention, between its exchanges. */
export interface DecoderLayer {
  /** Adds what the layer before gave; normalises; query, key and value with bias, norm and rotation. */
  readonly attentionInputs: Segment;
  /**
   * This rank's part of the output projection: `delta`, to be summed over the ranks; or, of gathered attention, its
   * outputs, to be gathered.
   */
  readonly attentionOutput: Segment;
  /**
   * Adds that; normalises; this rank's part of the MLP: `delta`, to be summed over the ranks; or its columns of the
   * hidden layer, to be gathered.
   */
  readonly feedForward: Segment;
  /** This rank's outputs of gathered columns, to be gathered; undefined where nothing is. */
  readonly feedForwardOutput: Segment | undefined;
}

/** Everything that a step of T tokens computes between exchanges; can be run at any step of as many. */
export class StepLayers {
  readonly step: Activations;
  /** The rotations of the step's positions, and this rank's part of the embedded tokens, to be summed: `hidden`. */
  readonly embed: Segment;
  readonly decoder: readonly DecoderLayer[];
  /** Adds what the last layer gave. */
  readonly finish: Segment;
  /** Normalises every row of `hidden`; logits of all of them. */
  readonly allLogits: Segment;
  /** Where {@link allLogits} leaves them [T, vocabulary rows]; undefined for steps that cannot want so many. */
  readonly logits: Tensor | undefined;
  readonly #parts: StepLayersParts;

  /** @param logits room for the logits of all tokens, if there is */
  constructor(parts: StepLayersParts, turns: RotaryTurns, step: Activations, logits: Tensor | undefined) {
    const { config, share, weights, layers } = parts;
    this.step = step;
    this.logits = logits;
    this.#parts = parts;
    this.embed = this.#segment(() => {
      layers.rotations(step.positions, turns, step.cosines, step.sines);
      layers.embed(step.ids, weights.embedding, share.vocabulary.start, step.hidden);
    });
    this.decoder = weights.layers.map((layer, index) => ({
      attentionInputs: this.#segment(() => {
        if (index > 0) layers.addInto(step.hidden, step.delta);
        this.#attentionInputs(layer);
      }),
      attentionOutput: this.#segment(() => {
        const { gathered } = step;
        if (gathered === undefined) layers.linear(step.attended, layer.attentionOutput, step.delta);
        else layers.linear(gathered.attended.whole, layer.attentionOutput, gathered.delta.own);
      }),
      feedForward: this.#segment(() => {
        this.#feedForward(layer);
        if (step.gathered === undefined) layers.linear(step.gate, layer.down, step.delta);
      }),
      feedForwardOutput: this.#gatheredOutput(layer),
    }));
    this.finish = this.#segment(() => {
      layers.addInto(step.hidden, step.delta);
    });
    this.allLogits = this.#segment(() => {
      if (logits === undefined) return;
      layers.rmsNorm(step.hidden, weights.finalNorm, step.normed, config.normEpsilon);
      layers.linear(step.normed, weights.output, logits);
    });
  }

  #attentionInputs(weights: LayerWeights): void {
    const { config, layers } = this.#parts;
    const { hidden, normed, query, key, value, cosines, sines } = this.step;
    layers.rmsNorm(hidden, weights.attentionNorm, normed, config.normEpsilon);
    layers.linear(normed, weights.query, query);
    layers.linear(normed, weights.key, key);
    layers.linear(normed, weights.value, value);
    if (weights.queryBias !== undefined) layers.addBias(query, weights.queryBias);
    if (weights.keyBias !== undefined) layers.addBias(key, weights.keyBias);
    if (weights.valueBias !== undefined) layers.addBias(value, weights.valueBias);
    if (weights.queryNorm !== undefined) layers.rmsNorm(query, weights.queryNorm, query, config.normEpsilon);
    if (weights.keyNorm !== undefined) layers.rmsNorm(key, weights.keyNorm, key, config.normEpsilon);
    layers.rotate(query, cosines, sines);
    layers.rotate(key, cosines, sines);
  }

  #feedForward(weights: LayerWeights): void {
    const { config, layers } = this.#parts;
    const { hidden, normed, delta, gate, up } = this.step;
    // Once, to the whole output: every rank adds the whole bias.
    if (weights.attentionOutputBias !== undefined) layers.addBias(delta, weights.attentionOutputBias);
    layers.addInto(hidden, delta);
    layers.rmsNorm(hidden, weights.mlpNorm, normed, config.normEpsilon);
    layers.linear(normed, weights.gate, gate);
    layers.linear(normed, weights.up, up);
    layers.swiGlu(gate, up, gate);
  }

  #gatheredOutput(weights: LayerWeights): Segment | undefined {
    const { gathered } = this.step;
    if (gathered === undefined) return undefined;
    return this.#segment(() => {
      this.#parts.layers.linear(gathered.gate.whole, weights.down, gathered.delta.own);
    });
  }

  /** Recorded when it runs first, where steps are small. */
  #segment(build: () => void): Segment {
    const { layers, runProgram = (recorded) => recorded.run() } = this.#parts;
    if (this.step.ids.size > MOST_RECORDED_TOKENS) return build;
    let program: LayerProgram | undefined;
    return () => {
      program ??= layers.record(build);
      runProgram(program);
    };
  }
}
