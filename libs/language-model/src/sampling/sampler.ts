// The choice of tokens from logits whose vocabulary is split over ranks.
import type { ProcessGroup } from "@lockstep/dist-groups";
import { ArgumentError, describe, type SharedHeap, type Tensor } from "@lockstep/tensor";
import type { Layers } from "../layers/layers.ts";
import { lengthOf, type Range } from "../model/tensor-parallel.ts";
import { BestLogits } from "./best-logits.ts";
import { ChosenTokens } from "./chosen-tokens.ts";
import { TokenDraw } from "./draw-token.ts";
import { LikeliestTokens, MOST_TOKENS } from "./likeliest-tokens.ts";
import { withLogprobs } from "./log-probabilities.ts";
import { uniform } from "./philox.ts";
import { type ChosenToken, isGreedy, needsWholeRow, type RowRequest } from "./row-request.ts";
import { MOST_LOGPROBS } from "./sampling-options.ts";
import { WholeRows } from "./whole-rows.ts";

/** What a sampler works with. Its memory is {@link samplerExchangeBytes} of the heap. */
export interface SamplerParts {
  /** Computes where the logits lie. */
  readonly layers: Layers;
  /** The ranks that the vocabulary is split over. */
  readonly world: ProcessGroup;
  /** What peers reach. */
  readonly heap: SharedHeap;
  /** Tokens whose logits this rank has: those of the next rank follow. May be none. */
  readonly vocabulary: Range;
  /** Tokens over all ranks. */
  readonly vocabularySize: number;
  /** Most rows of a step. */
  readonly maxRows: number;
  /** Those of them that may be drawn by chance, or told with log-probabilities. Default: all. */
  readonly maxWholeRows?: number;
}

/** What one step chose. */
export interface Choice {
  /** Of each row. */
  readonly tokens: ChosenToken[];
  /** Rank 0's word. */
  readonly control: number;
}

/** Whole rows of logits, and what computes on them. */
interface RowWork {
  readonly rows: WholeRows;
  readonly chosen: ChosenTokens;
  readonly likeliest: LikeliestTokens;
  readonly draw: TokenDraw;
}

/**
 * Chooses the next tokens of the texts of a step: every rank finds the same. A row's token depends on its own logits,
 * its options, its seed and its number alone; how many ranks there are, and what else is in the step, does not matter.
 */
export class Sampler {
  readonly #parts: SamplerParts;
  readonly #best: BestLogits;
  readonly #work: RowWork | undefined;

  /** @throws ArgumentError, HeapExhausted */
  constructor(parts: SamplerParts) {
    const { layers, world, heap, vocabulary, vocabularySize, maxRows, maxWholeRows = maxRows } = parts;
    if (vocabularySize > MOST_TOKENS) {
      throw new ArgumentError("Sampler", "vocabularySize", `at most ${MOST_TOKENS}`, `${vocabularySize}`);
    }
    this.#parts = parts;
    this.#best = new BestLogits(layers, world, heap, vocabulary.start, maxRows);
    if (maxWholeRows === 0) return;
    const sizes = { world: world.size, vocabularySize, ownVocabulary: lengthOf(vocabulary), maxRows: maxWholeRows };
    const likeliest = new LikeliestTokens(vocabularySize);
    this.#work = {
      rows: new WholeRows(world, heap, sizes),
      chosen: new ChosenTokens(world, heap, maxWholeRows),
      likeliest,
      draw: new TokenDraw(vocabularySize, likeliest),
    };
  }

  /**
   * The next token of each row. One exchange, in which `control` travels too, also without rows; two more and one for
   * every round of rows ({@link WholeRows}) when there are rows that need more than their largest logit. All ranks make
   * the call with the same requests.
   * @param logits [rows, own vocabulary] f32, contiguous
   * @param rows what is asked of each row, checked by `resolveSampling`
   * @param control a word of this rank's, an i32; every rank gets rank 0's
   * @throws LogitsNotFinite on every rank, when a logit of any rank is NaN or infinite; ArgumentError before anything
   * is   exchanged
   */
  choose(logits: Tensor, rows: readonly RowRequest[], control = 0): Choice {
    const whole = this.#check(logits, rows, control);
    const best = this.#best;
    best.find(logits, control);
    const tokens: ChosenToken[] = [];
    for (let row = 0; row < rows.length; row++) tokens.push({ token: best.tokens[row] ?? -1 });
    if (whole.length > 0 && this.#work !== undefined) this.#chooseWhole(this.#work, logits, rows, whole, tokens);
    return { tokens, control: best.control };
  }

  /** Puts the tokens of rows that need more than their largest logit in place. */
  #chooseWhole(
    work: RowWork,
    logits: Tensor,
    rows: readonly RowRequest[],
    whole: readonly number[],
    tokens: ChosenToken[],
  ): void {
    work.rows.forEach(logits, whole, (place, values) => {
      const row = whole[place] ?? -1;
      const request = rows[row];
      if (request !== undefined) work.chosen.push(this.#chooseOne(work, values, row, request));
    });
    for (const [place, chosen] of work.chosen.gather(whole.length).entries()) tokens[whole[place] ?? -1] = chosen;
  }

  #chooseOne({ draw, likeliest }: RowWork, values: Float32Array, row: number, request: RowRequest): ChosenToken {
    const { sampling, index } = request;
    const most = this.#best.logits[row] ?? Number.NaN;
    const token = isGreedy(sampling)
      ? (this.#best.tokens[row] ?? -1)
      : draw.draw(values, most, sampling, uniform(sampling.seed, index));
    return sampling.logprobs < 0 ? { token } : withLogprobs(values, most, token, sampling.logprobs, likeliest);
  }

  /** The rows that need more than their largest logit. */
  #check(logits: Tensor, rows: readonly RowRequest[], control: number): number[] {
    const { vocabulary, maxRows, maxWholeRows = maxRows } = this.#parts;
    const width = lengthOf(vocabulary);
    if (logits.dtype !== "f32" || logits.rank !== 2 || logits.dim(1) !== width || !logits.isContiguous) {
      throw new ArgumentError("Sampler.choose", "logits", `contiguous f32 [rows, ${width}]`, logits.toString());
    }
    if (rows.length !== logits.dim(0) || rows.length > maxRows) {
      const expected = `one for each of ${logits.dim(0)} rows of logits, at most ${maxRows}`;
      throw new ArgumentError("Sampler.choose", "rows", expected, `${rows.length}`);
    }
    if ((control | 0) !== control) throw new ArgumentError("Sampler.choose", "control", "an i32", describe(control));
    const whole: number[] = [];
    for (const [row, { sampling }] of rows.entries()) {
      if (needsWholeRow(sampling)) whole.push(row);
      if (sampling.logprobs > MOST_LOGPROBS) {
        throw new ArgumentError("Sampler.choose", "logprobs", `at most ${MOST_LOGPROBS}`, `${sampling.logprobs}`);
      }
    }
    if (whole.length > maxWholeRows) {
      const expected = `at most ${maxWholeRows} drawn by chance or told with log-probabilities`;
      throw new ArgumentError("Sampler.choose", "rows", expected, `${whole.length}`);
    }
    return whole;
  }
}
