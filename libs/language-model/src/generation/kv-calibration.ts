import type { KvScales } from "@lockstep/attention";
import type { Tensor } from "@lockstep/tensor";
import { ModelError } from "../errors.ts";
import type { StepAttention } from "../model/step-attention.ts";

/** Largest magnitude that an element of a quantised cache can stand for at a scale of 1. */
const LARGEST = { f8e4m3: 448, i8: 127 } as const;

/**
 * Room above the largest magnitude seen, for keys and values of tokens still to come. f8e4m3 is a floating-point format
 * whose precision does not suffer from it; i8 has evenly spaced steps, which it makes wider.
 */
const HEADROOM = { f8e4m3: 2, i8: 1.125 } as const;

/** Types of cached keys and values whose elements have scales. */
export type QuantisedKv = keyof typeof LARGEST;

/** Types of cached keys and values; f8e4m3 and i8 are quantised. */
export type KvDtype = "f32" | "f16" | "bf16" | QuantisedKv;

/**
 * Where scales of a quantised cache come from: every token and KV head has its own, or a sample decides those of KV
 * heads.
 */
export type KvScaleSource = "per-token" | "static";

/** True for a dtype of KV caches whose elements have scales. */
export function isQuantisedKv(dtype: KvDtype): dtype is QuantisedKv {
  return dtype === "f8e4m3" || dtype === "i8";
}

/**
 * Finds scales of a quantised KV cache: one for each layer's keys and values and each KV head, from the magnitudes of a
 * sample.
 */
export class KvCalibration {
  readonly #key: Float64Array[];
  readonly #value: Float64Array[];

  constructor(layers: number, kvHeads: number) {
    this.#key = Array.from({ length: layers }, () => new Float64Array(kvHeads));
    this.#value = Array.from({ length: layers }, () => new Float64Array(kvHeads));
  }

  /** A step that takes note of the keys and values that pass through it. */
  observe(step: StepAttention): StepAttention {
    return {
      begin: (items) => step.begin(items),
      forward: (layer, query, key, value, out) => {
        raise(this.#key[layer], key);
        raise(this.#value[layer], value);
        return step.forward(layer, query, key, value, out);
      },
      end: () => step.end(),
      cancel: () => step.cancel(),
    };
  }

  /**
   * The first projection whose output was not finite, as 2 * layer for keys and 2 * layer + 1 for values; Infinity for
   * none. No scales can be found then.
   */
  get firstNonFinite(): number {
    for (const [layer, key] of this.#key.entries()) {
      if (!key.every(Number.isFinite)) return 2 * layer;
      if (this.#value[layer]?.every(Number.isFinite) === false) return 2 * layer + 1;
    }
    return Number.POSITIVE_INFINITY;
  }

  /** Scales of every layer for the magnitudes seen so far, which are finite: see {@link firstNonFinite}. */
  scales(dtype: QuantisedKv): KvScales[] {
    const scale = (most: number): number => roundUp((most * HEADROOM[dtype]) / LARGEST[dtype]);
    return this.#key.map((key, layer) => ({
      key: [...key].map(scale),
      value: [...(this.#value[layer] ?? [])].map(scale),
    }));
  }
}

/** Raises `most` [heads] to the largest magnitudes of rows [T, heads, D]. */
function raise(most: Float64Array | undefined, rows: Tensor): void {
  const [tokens = 0, heads = 0, dim = 0] = rows.shape;
  const values = rows.f32;
  for (let head = 0; most !== undefined && head < heads; head++) {
    for (let token = 0; token < tokens; token++) {
      const start = (token * heads + head) * dim;
      for (let at = start; at < start + dim; at++) most[head] = Math.max(most[head] ?? 0, Math.abs(values[at] ?? 0));
    }
  }
}

/**
 * The error that says which layer's keys or values were not finite, by the number that {@link
 * KvCalibration.firstNonFinite} gives.
 */
export function nonFiniteKv(folder: string, first: number): ModelError {
  const [layer, what] = [Math.floor(first / 2), first % 2 === 0 ? "keys" : "values"];
  const tensor = `model.layers.${layer}.self_attn.${what === "keys" ? "k" : "v"}_proj.weight`;
  return new ModelError(
    folder,
    `finite ${what} of the calibration tokens in layer ${layer}, to find scales of a quantised KV cache`,
    `NaN or infinite ones: ${tensor}, or a weight before it, is damaged`,
  );
}

/**
 * Rounds up to three significant bits: sums differ in their last bits from one number of ranks to another, and scales
 * should not. A head of nothing but zeros gets 1.
 */
function roundUp(scale: number): number {
  if (!(scale > 0 && Number.isFinite(scale))) return 1;
  let unit = 2 ** -100;
  while (unit * 8 <= scale) unit *= 2;
  return Math.ceil(scale / unit) * unit;
}
