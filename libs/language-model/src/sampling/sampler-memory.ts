import { DTYPE_BYTES } from "@lockstep/tensor";
import { bestLogitsElements } from "./best-logits.ts";
import { chosenTokenElements } from "./chosen-tokens.ts";
import { wholeRowElements } from "./whole-rows.ts";

/** What a heap rounds each tensor up to, an empty one too. */
const LINE_BYTES = 128;

/** The sizes that decide what a sampler takes. */
export interface SamplerSizes {
  readonly world: number;
  /** Tokens of the vocabulary. */
  readonly vocabularySize: number;
  /** Those of them whose logits this rank has. */
  readonly ownVocabulary: number;
  /** Most rows of a step. */
  readonly maxRows: number;
  /** Those of them that may be drawn by chance, or told with log-probabilities. */
  readonly maxWholeRows: number;
}

/** Bytes of a rank's heap that its sampler takes. */
export function samplerExchangeBytes(sizes: SamplerSizes): number {
  const { world, maxRows, maxWholeRows } = sizes;
  const elements = [...bestLogitsElements(world, maxRows)];
  if (maxWholeRows > 0) {
    elements.push(
      ...wholeRowElements({ ...sizes, maxRows: maxWholeRows }),
      ...chosenTokenElements(world, maxWholeRows),
    );
  }
  const lines = (count: number): number => Math.max(1, Math.ceil((count * DTYPE_BYTES.i32) / LINE_BYTES));
  return elements.reduce((sum, count) => sum + LINE_BYTES * lines(count), 0);
}

/** Bytes of a thread's own memory that it takes besides: a row, its weights, and room to select and sort in. */
export function samplerOwnBytes({ vocabularySize, maxRows, maxWholeRows }: SamplerSizes): number {
  return 8 * maxRows + (maxWholeRows > 0 ? 28 * vocabularySize : 0);
}
