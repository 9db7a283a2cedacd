// What a model says of the likeliest tokens: log-softmax of its logits as they are, before temperature and cuts.
import { naturalLog } from "../model/natural-log.ts";
import { exponential } from "./exponential.ts";
import type { LikeliestTokens } from "./likeliest-tokens.ts";
import type { ChosenToken } from "./row-request.ts";

/**
 * A chosen token with its log-probability, and those of the `wanted` likeliest tokens, in float64, summed in the order
 * of ids.
 * @param logits [vocabulary size], all finite
 * @param most the largest of them
 */
export function withLogprobs(
  logits: Float32Array,
  most: number,
  token: number,
  wanted: number,
  likeliest: LikeliestTokens,
): Required<ChosenToken> {
  let sum = 0;
  for (let id = 0; id < logits.length; id++) sum += exponential((logits[id] ?? Number.NaN) - most);
  const all = naturalLog(sum);
  const logprobOf = (id: number): number => (logits[id] ?? Number.NaN) - most - all;
  likeliest.find(logits, wanted);
  const ids = Array.from(likeliest.ids.subarray(0, likeliest.count));
  return { token, logprob: logprobOf(token), top: ids.map((id) => ({ id, logprob: logprobOf(id) })) };
}
