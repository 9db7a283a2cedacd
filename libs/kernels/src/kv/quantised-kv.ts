import { ArgumentError, type DType, describe } from "@lockstep/tensor";
import { expectDType, expectList, expectShape, type Operand } from "../operand.ts";

/**
 * Dtypes of a KV cache. The last two are quantised: an element stands for its number times a scale, which is that of
 * its head (static) or of its token and head (see row-scales.ts).
 */
export const KV_DTYPES: readonly DType[] = ["f32", "f16", "bf16", "f8e4m3", "i8"];

/** True for f8e4m3 and i8. */
export function isQuantised(dtype: DType): boolean {
  return dtype === "f8e4m3" || dtype === "i8";
}

/** Scales of a quantised cache: one for the whole tensor, or one for each KV head. Positive. */
export type KvScale = ArrayLike<number>;

/**
 * The scale of each KV head in f32, or undefined for a cache that has none: one of floats, or one whose rows have
 * scales of their own in `rowScales`. `cacheName` is what errors call the cache.
 * @throws ArgumentError unless scales are given exactly for a quantised cache, one or one per head, positive, and large
 *   and small enough that they and their inverses are normal f32 numbers
 */
export function checkScale(
  operation: string,
  argument: string,
  scale: KvScale | undefined,
  cacheName: string,
  cache: Operand,
  rowScales?: Operand,
): Float32Array | undefined {
  const { dtype } = cache;
  const heads = cache.shape[2] ?? 0;
  if (scale !== undefined) expectList(operation, argument, scale);
  if (rowScales !== undefined) {
    expectRowScales(operation, `${argument}Cache`, rowScales, cacheName, cache);
    if (scale === undefined) return undefined;
    throw new ArgumentError(operation, argument, `left out with \`${argument}Cache\``, describeScale(scale));
  }
  if (!isQuantised(dtype)) {
    if (scale === undefined) return undefined;
    throw new ArgumentError(operation, argument, `left out for a \`${cacheName}\` of ${dtype}`, describeScale(scale));
  }
  if (scale === undefined || (scale.length !== 1 && scale.length !== heads)) {
    const expected =
      `1 scale, or ${heads} for the KV heads (or \`${argument}Cache\`), ` + `because \`${cacheName}\` is ${dtype}`;
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

/** Throws ArgumentError unless `rowScales` has a scale for every row of a quantised cache. */
function expectRowScales(
  operation: string,
  argument: string,
  rowScales: Operand,
  cacheName: string,
  cache: Operand,
): void {
  if (!isQuantised(cache.dtype)) {
    throw new ArgumentError(operation, argument, `left out for a \`${cacheName}\` of ${cache.dtype}`, "given");
  }
  expectShape(operation, argument, rowScales, [...cache.shape.slice(0, 3), 1]);
  expectDType(operation, argument, rowScales, ["f32"]);
}

function describeScale(scale: KvScale): string {
  const first = Array.from({ length: Math.min(8, scale.length) }, (_, index) => describe(scale[index]));
  return `[${first.join(", ")}${scale.length > 8 ? ", ..." : ""}]`;
}
