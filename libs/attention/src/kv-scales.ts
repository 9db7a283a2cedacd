import { isQuantised, type KvScale } from "@lockstep/kernels";
import { ArgumentError, type DType, describe } from "@lockstep/tensor";

/**
 * What an element of a quantised KV cache is worth: a stored x stands for x times the scale. A number serves all KV heads of
 * this rank; a list has one for each. A good scale is the largest magnitude of the head divided by 448 (f8e4m3) or 127 (i8).
 */
export interface KvScales {
  readonly key: number | readonly number[];
  /** Left out for MLA, whose values are columns of the keys. */
  readonly value?: number | readonly number[];
}

/** A layer's scales as the kernels take them. */
export interface LayerScales {
  readonly keyScale?: KvScale;
  readonly valueScale?: KvScale;
}

/** The scales of every layer: empty when there are none. For MLA the values have the keys' scales. */
export function layerScales(
  given: KvScales | readonly KvScales[] | undefined,
  layers: number,
  mla: boolean,
): LayerScales[] {
  const list = (scale: number | readonly number[]): readonly number[] => (typeof scale === "number" ? [scale] : scale);
  return Array.from({ length: layers }, (_, layer) => {
    const scales = scalesOf(given, layer);
    if (scales === undefined) return {};
    const keyScale = list(scales.key);
    const valueScale = mla ? keyScale : scales.value === undefined ? undefined : list(scales.value);
    return valueScale === undefined ? { keyScale } : { keyScale, valueScale };
  });
}

function scalesOf(given: KvScales | readonly KvScales[] | undefined, layer: number): KvScales | undefined {
  return isList(given) ? given[layer] : given;
}

function isList(given: KvScales | readonly KvScales[] | undefined): given is readonly KvScales[] {
  return Array.isArray(given);
}

/** Throws ArgumentError unless scales are given exactly for a quantised dtype, for every layer, positive, one or one per KV head. */
export function checkKvScales(
  operation: string,
  given: KvScales | readonly KvScales[] | undefined,
  { kvDtype, layers, kvHeads, mla = false }: { kvDtype: DType; layers: number; kvHeads: number; mla?: boolean },
): void {
  if (!isQuantised(kvDtype)) {
    if (given === undefined) return;
    throw new ArgumentError(operation, "kvScales", `left out for a kvDtype of ${kvDtype}`, "given");
  }
  if (given === undefined) {
    throw new ArgumentError(operation, "kvScales", `given for a kvDtype of ${kvDtype}`, "left out");
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
      const scale = scales?.[side];
      if (scale === undefined) continue;
      const list = typeof scale === "number" ? [scale] : scale;
      const isPositive = list.every((value) => value >= 2 ** -120 && value <= 2 ** 120);
      if (isPositive && (list.length === kvHeads || typeof scale === "number")) continue;
      const expected = `a number, or one for each of the ${kvHeads} KV heads, from 2^-120 to 2^120`;
      throw new ArgumentError(operation, `kvScales.${side} of layer ${layer}`, expected, JSON.stringify(scale));
    }
  }
}
