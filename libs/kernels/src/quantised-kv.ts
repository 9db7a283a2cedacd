import { ArgumentError, type DType, describe } from "@lockstep/tensor";
import { expectList, type Operand } from "./operand.ts";

/** Dtypes of a KV cache. The last two are quantised: an element stands for its number times its head's scale. */
export const KV_DTYPES: readonly DType[] = ["f32", "f16", "bf16", "f8e4m3", "i8"];

/** True for f8e4m3 and i8. */
export function isQuantised(dtype: DType): boolean {
  return dtype === "f8e4m3" || dtype === "i8";
}

/** Scales of a quantised cache: one for the whole tensor, or one for each KV head. Positive. */
export type KvScale = ArrayLike<number>;

/**
 * The scale of each KV head in f32, or undefined for a cache that has none.
 * @throws ArgumentError unless scales are given exactly for a quantised cache, one or one per head, positive, and large and
 *   small enough that they and their inverses are normal f32 numbers
 */
export function checkScale(
  operation: string,
  argument: string,
  scale: KvScale | undefined,
  cacheName: string,
  cache: Operand,
): Float32Array | undefined {
  const { dtype } = cache;
  const heads = cache.shape[2] ?? 0;
  if (scale !== undefined) expectList(operation, argument, scale);
  if (!isQuantised(dtype)) {
    if (scale === undefined) return undefined;
    throw new ArgumentError(operation, argument, `left out for a \`${cacheName}\` of ${dtype}`, describeScale(scale));
  }
  if (scale === undefined || (scale.length !== 1 && scale.length !== heads)) {
    const expected = `1 scale, or ${heads} for the KV heads, because \`${cacheName}\` is ${dtype}`;
    throw new ArgumentError(operation, argument, expected, scale === undefined ? "left out" : describeScale(scale));
  }
  const scales = Float32Array.from({ length: heads }, (_, head) => {
    const value: unknown = scale[scale.length === 1 ? 0 : head];
    return typeof value === "number" ? value : Number.NaN;
  });
  const wrong = scales.find((value) => !(value >= 2 ** -120 && value <= 2 ** 120));
  if (wrong !== undefined) throw new ArgumentError(operation, argument, "from 2^-120 to 2^120", String(wrong));
  return scales;
}

function describeScale(scale: KvScale): string {
  const first = Array.from({ length: Math.min(8, scale.length) }, (_, index) => describe(scale[index]));
  return `[${first.join(", ")}${scale.length > 8 ? ", ..." : ""}]`;
}
