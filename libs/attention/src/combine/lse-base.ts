import type { LseBase } from "@lockstep/kernels";
import { ArgumentError, describe, Tensor } from "@lockstep/tensor";

/**
 * Converts LSEs between bases: ln(x) = log2(x) * ln 2. Everything inside this library is natural (base e); kernels of
 * others (FlashInfer, FlashMLA) return base 2. Infinities and NaN stay what they are.
 *
 * @param lse f32, any shape and strides
 * @param from base that `lse` is in
 * @param to base wanted
 * @param out where the result goes, f32 of lse's shape; may be `lse` itself. Default: a new tensor in lse's heap
 * @returns what it wrote
 * @throws ArgumentError for another dtype, base or shape
 */
export function convertLse(lse: Tensor, from: LseBase, to: LseBase, out?: Tensor): Tensor {
  if (!(lse instanceof Tensor)) throw new ArgumentError("convertLse", "lse", "a tensor", describe(lse));
  if (lse.dtype !== "f32") throw new ArgumentError("convertLse", "lse", "of dtype f32", lse.toString());
  for (const [name, base] of Object.entries({ from, to })) {
    if (base !== "e" && base !== "2") throw new ArgumentError("convertLse", name, '"e" or "2"', describe(base));
  }
  const written = out ?? Tensor.empty(lse.heap, "f32", lse.shape);
  if (from === to) return written === lse ? lse : written.copyFrom(lse);
  const factor = to === "2" ? Math.LOG2E : Math.LN2;
  return written.set(lse.toNumbers().map((value) => value * factor));
}
