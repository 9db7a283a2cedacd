import { isQuantised, type KvScale } from "@lockstep/kernels";
import { ArgumentError, type DType, describe } from "@lockstep/tensor";

/**
 * Scales of a quantised KV cache that are known beforehand: a stored x stands for x times the scale. A number serves
 * all KV heads of this rank; a list has one for each. A good scale is the largest magnitude of the head divided by 448
 * (f8e4m3) or 127 (i8).
 */
export interface KvScales {
  /** Of keys. */
  readonly key: number | readonly number[];
  /** Left out for MLA, whose values are columns of the keys. */
  readonly value?: number | readonly number[];
}

/**
 * Where the scales of a quantised cache come from. "per-token": every token and KV head has its own, found when it is
 * stored. Otherwise they are given, for all layers or for each.
 */
export type KvScaling = "per-token" | KvScales | readonly KvScales[];

/** True when every token and KV head has a scale of its own: what a quantised cache does unless it is given scales. */
export function scalesPerToken(dtype: DType, given: KvScaling | undefined): boolean {
  return isQuantised(dtype) && (given === undefined || given === "per-token");
}

/** A layer's scales as the kernels take them. */
export interface LayerScales {
  readonly keyScale?: KvScale;
  readonly valueScale?: KvScale;
}

/** Copies of the scales given for every layer: empty when there are none. For MLA the values have the keys' scales. */
export function layerScales(given: KvScaling | undefined, layers: number, mla: boolean): LayerScales[] {
  const list = (scale: number | readonly number[]): readonly number[] =>
    typeof scale === "number" ? [scale] : [...scale];
  return Array.from({ length: layers }, (_, layer) => {
    const scales = scalesOf(given, layer);
    if (scales === undefined) return {};
    const keyScale = list(scales.key);
    const valueScale = mla ? keyScale : scales.value === undefined ? undefined : list(scales.value);
    return valueScale === undefined ? { keyScale } : { keyScale, valueScale };
  });
}

function scalesOf(given: KvScaling | undefined, layer: number): KvScales | undefined {
  return given === "per-token" ? undefined : isList(given) ? given[layer] : given;
}

function isList(given: KvScaling | undefined): given is readonly KvScales[] {
  return Array.isArray(given);
}

/**
 * Throws ArgumentError for scales that a cache cannot use. Only a quantised cache takes them: for all layers or for
 * each, one or one for each KV head, all positive.
 */
export function checkKvScales(
  operation: string,
  given: KvScaling | undefined,
  { kvDtype, layers, kvHeads, mla }: { kvDtype: DType; layers: number; kvHeads: number; mla: boolean },
): void {
  if (!isQuantised(kvDtype)) {
    if (given === undefined) return;
    throw new ArgumentError(operation, "kvScales", `left out for a kvDtype of ${kvDtype}`, "given");
  }
  if (given === undefined || given === "per-token") return;
  if (typeof given !== "object" || given === null) {
    throw new ArgumentError(operation, "kvScales", '"per-token", or scales of keys and values', describe(given));
  }
  if (isList(given) && given.length !== layers) {
    throw new ArgumentError(
      operation,
      "kvScales",
      `one, or one for each of the ${layers} layers`,
      describe(given.length),
    );
  }
  for (let layer = 0; layer < layers; layer++) {
    const scales = scalesOf(given, layer);
    if (mla !== (scales?.value === undefined)) {
      const expected = mla
        ? "left out with mla, whose values are columns of the keys"
        : "given (only mla goes without)";
      throw new ArgumentError(operation, `kvScales.value of layer ${layer}`, expected, mla ? "given" : "left out");
    }
    for (const side of ["key", "value"] as const) {
      const scale: unknown = scales?.[side];
      // Whether there is to be one for values has been said above.
      if (scale === undefined && side === "value") continue;
      const list: readonly unknown[] = Array.isArray(scale) ? scale : [scale];
      const isPositive = list.every((value) => typeof value === "number" && value >= 2 ** -120 && value <= 2 ** 120);
      if (isPositive && (list.length === kvHeads || typeof scale === "number")) continue;
      const expected = `a number, or one for each of the ${kvHeads} KV heads, from 2^-120 to 2^120`;
      throw new ArgumentError(operation, `kvScales.${side} of layer ${layer}`, expected, described(scale));
    }
  }
}

function described(scale: unknown): string {
  return Array.isArray(scale) ? `[${scale.slice(0, 8).map(describe).join(", ")}]` : describe(scale);
}
