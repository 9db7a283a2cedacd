// What is asked of one row of logits, and what comes of it.
import type { Sampling } from "./sampling-options.ts";
import type { TokenLogprob } from "./token-logprob.ts";

/** What is asked of one row. */
export interface RowRequest {
  readonly sampling: Sampling;
  /** Number of the token among those that its text was continued by, from 0: what chance depends on besides the seed. */
  readonly index: number;
}

/** The token that a row's choice fell on. */
export interface ChosenToken {
  /** Its id. */
  readonly token: number;
  /** Its log-probability, if asked for. */
  readonly logprob?: number;
  /** The likeliest tokens in its place, likeliest first, as many as asked for. */
  readonly top?: readonly TokenLogprob[];
}

/** The likeliest token, and nothing told about it. */
export const GREEDY: RowRequest = {
  sampling: { temperature: 0, topP: 1, topK: 0, minP: 0, seed: 0, logprobs: -1 },
  index: 0,
};

/** Whether a row's token is its likeliest, whatever chance says. */
export function isGreedy({ temperature, topK }: Sampling): boolean {
  return temperature === 0 || topK === 1;
}

/** Whether more has to be known of a row than its likeliest token. */
export function needsWholeRow(sampling: Sampling): boolean {
  return sampling.logprobs >= 0 || !isGreedy(sampling);
}
