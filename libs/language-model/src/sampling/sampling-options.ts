// How the next token of a text is chosen, and that it is what its types say.
import { ArgumentError, describe } from "@lockstep/tensor";

/** How tokens are chosen from the model's logits. All that is left out does nothing. */
export interface SamplingOptions {
  /** Logits are divided by it before they become probabilities, from 0 to 100. 0: the likeliest token. Default 0. */
  readonly temperature?: number;
  /** Of the likeliest tokens, the fewest that together have this probability, above 0 and up to 1. Default 1: all. */
  readonly topP?: number;
  /** So many of the likeliest tokens. Default 0: all. */
  readonly topK?: number;
  /** Tokens at least this many times as probable as the likeliest, from 0 to 1. Default 0: all. */
  readonly minP?: number;
  /** What chance depends on, an integer from 0 to 2^53 - 1: the same seed, the same tokens. Default: another each time. */
  readonly seed?: number;
  /**
   * Tell the log-probability of each token, and of so many of the likeliest in its place, from 0 to 20: those that the
   * model gives, before temperature and cuts. Default: none is told.
   */
  readonly logprobs?: number;
}

/** Sampling options with all that was left out filled in. Plain data. */
export interface Sampling {
  readonly temperature: number;
  readonly topP: number;
  /** 0: all. */
  readonly topK: number;
  readonly minP: number;
  readonly seed: number;
  /** -1: none is told. */
  readonly logprobs: number;
}

/** Most alternatives whose log-probabilities are told. */
export const MOST_LOGPROBS = 20;

/** Fills in what is left out. @throws ArgumentError naming the option that is wrong */
export function resolveSampling(operation: string, options: SamplingOptions): Sampling {
  const { temperature = 0, topP = 1, topK = 0, minP = 0, seed = randomSeed(), logprobs } = options;
  const check = (name: string, value: unknown, isRight: boolean, expected: string): void => {
    if (!isRight) throw new ArgumentError(operation, name, expected, describe(value));
  };
  const isNumber = (value: unknown, from: number, to: number): boolean =>
    typeof value === "number" && value >= from && value <= to;
  const isInteger = (value: unknown, to: number): boolean => Number.isInteger(value) && isNumber(value, 0, to);
  check("temperature", temperature, isNumber(temperature, 0, 100), "a number from 0 to 100");
  check("topP", topP, isNumber(topP, 0, 1) && topP > 0, "a number above 0 and up to 1");
  check("topK", topK, isInteger(topK, 2 ** 31 - 1), "an integer of at least 0");
  check("minP", minP, isNumber(minP, 0, 1), "a number from 0 to 1");
  check("seed", seed, isInteger(seed, Number.MAX_SAFE_INTEGER), "an integer from 0 to 2^53 - 1");
  check("logprobs", logprobs, logprobs === undefined || isInteger(logprobs, MOST_LOGPROBS), "an integer from 0 to 20");
  return { temperature, topP, topK, minP, seed, logprobs: logprobs ?? -1 };
}

/** A seed that nobody asked for. */
function randomSeed(): number {
  const [high = 0, low = 0] = crypto.getRandomValues(new Uint32Array(2));
  return (high % 2 ** 21) * 2 ** 32 + low;
}
