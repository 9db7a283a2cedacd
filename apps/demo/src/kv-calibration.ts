import type { KvScales } from "@lockstep/attention";
import type { Tensor } from "@lockstep/tensor";
import type { StepAttention } from "./step-attention.ts";

/** Largest magnitude that an element of a quantised cache can stand for at a scale of 1. */
const LARGEST = { f8e4m3: 448, i8: 127 } as const;

/**
 * Room above the largest magnitude seen, for keys and values of tokens still to come. f8e4m3 is a floating-point format whose
 * precision does not suffer from it; i8 has evenly spaced steps, which it makes wider.
 */
const HEADROOM = { f8e4m3: 2, i8: 1.125 } as const;

export type QuantisedKv = keyof typeof LARGEST;

/** Types of cached keys and values; f8e4m3 and i8 are quantised. */
export type KvDtype = "f32" | "f16" | "bf16" | QuantisedKv;

export function isQuantisedKv(dtype: KvDtype): dtype is QuantisedKv {
  return dtype === "f8e4m3" || dtype === "i8";
}

/** Finds scales of a quantised KV cache: one for each layer's keys and values and each KV head, from the magnitudes of a sample. */
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
    };
  }

  /** Scales of every layer for the magnitudes seen so far. */
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
 * Rounds up to three significant bits: sums differ in their last bits from one number of ranks to another, and scales should not.
 * A head of nothing but zeros gets 1.
 */
function roundUp(scale: number): number {
  if (!(scale > 0)) return 1;
  let unit = 2 ** -100;
  while (unit * 8 <= scale) unit *= 2;
  return Math.ceil(scale / unit) * unit;
}
