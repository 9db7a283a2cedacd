import { checkScoreFactor, checkSink, checkSoftcap } from "@lockstep/kernels";
import { ArgumentError, describe, type Tensor } from "@lockstep/tensor";

/** What kernels take for a window, in positions. */
const LARGEST_WINDOW = 2 ** 31 - 1;

/** What decides a layer's scores besides queries and keys. */
export interface AttentionVariant {
  /** Factor on q.k. */
  readonly scale: number;
  /** Scores become softcap * tanh(score / softcap). */
  readonly softcap: number | undefined;
  /** A query at position p sees positions (p - window, p]; undefined: all up to its own. */
  readonly window: number | undefined;
  /** Logits that join the denominator [queryHeads], f32. */
  readonly sinks: Tensor | undefined;
}

/** The options of a DcpAttention that decide its variants: see DcpAttentionOptions. */
export interface VariantOptions {
  readonly layers: number;
  readonly queryHeads: number;
  readonly scale: number;
  readonly softcap?: number;
  readonly window?: number | readonly (number | null)[];
  readonly sinks?: Tensor;
}

/** The variant of every layer of a DcpAttention. */
export function attentionVariants(options: VariantOptions): AttentionVariant[] {
  const { layers, scale, softcap, sinks } = options;
  return Array.from({ length: layers }, (_, layer) => {
    return { scale, softcap, window: windowOf(options, layer), sinks: sinks?.select(0, layer) };
  });
}

/** A layer's sliding window; undefined when it sees everything. */
function windowOf({ window }: VariantOptions, layer: number): number | undefined {
  return typeof window === "object" ? (window[layer] ?? undefined) : window;
}

/** Throws ArgumentError unless the variant is one that the kernels can compute. */
export function checkVariant(name: string, options: VariantOptions): void {
  const { layers, queryHeads, window, softcap, scale, sinks } = options;
  if (window !== undefined && typeof window !== "number" && !(Array.isArray(window) && window.length === layers)) {
    const expected = `a number, or a list of one for each of the ${layers} layers`;
    throw new ArgumentError(name, "window", expected, Array.isArray(window) ? `${window.length}` : describe(window));
  }
  for (let layer = 0; layer < layers; layer++) {
    const size = windowOf(options, layer);
    if (size !== undefined && (!Number.isInteger(size) || size < 1 || size > LARGEST_WINDOW)) {
      const expected = `an integer from 1 to ${LARGEST_WINDOW} (it counts the query's own position)`;
      throw new ArgumentError(name, "window", expected, describe(size));
    }
  }
  if (softcap !== undefined) checkSoftcap(name, softcap);
  checkScoreFactor(name, "scale", scale);
  if (sinks === undefined) return;
  if (sinks.dtype !== "f32" || sinks.rank !== 2 || sinks.dim(0) !== layers || sinks.dim(1) !== queryHeads) {
    throw new ArgumentError(
      name,
      "sinks",
      `f32 [${layers}, ${queryHeads}], one for each of the ${layers} layers and ${queryHeads} query heads`,
      sinks.toString(),
    );
  }
  checkSinks(name, sinks);
}

/**
 * Throws UseAfterFree or ArgumentError unless sinks [layers, queryHeads] are numbers that the kernels take. They are
 * read at every step, by the kernels of one rank: all look at them first, so that all refuse them.
 */
export function checkSinks(name: string, sinks: Tensor): void {
  sinks.assertUsable(name, "sinks");
  const heads = sinks.dim(1);
  for (const [index, sink] of sinks.toNumbers().entries()) {
    checkSink(name, `sinks[${Math.floor(index / heads)}, ${index % heads}]`, sink);
  }
}
