// Sampling as plainly as can be, in float64: everything is sorted.
import { uniform } from "../src/sampling/philox.ts";
import type { ChosenToken, RowRequest } from "../src/sampling/row-request.ts";
import type { Sampling } from "../src/sampling/sampling-options.ts";

/** What nobody asked anything of. */
export const PLAIN: Sampling = { temperature: 1, topP: 1, topK: 0, minP: 0, seed: 0, logprobs: -1 };

/** Ids of all tokens, likeliest first, the lowest id first among equals. */
export function inOrder(logits: readonly number[]): number[] {
  const at = (id: number): number => logits[id] ?? Number.NaN;
  return Array.from(logits.keys()).sort((a, b) => at(b) - at(a) || a - b);
}

/** Tokens that the cuts leave, likeliest first, and their weights by id. */
export function leftByCuts(logits: readonly number[], sampling: Sampling): { ids: number[]; weights: number[] } {
  const { temperature, minP, topK, topP } = sampling;
  const most = Math.max(...logits);
  const weights = logits.map((logit) => Math.exp((logit - most) / temperature));
  let ids = inOrder(logits).filter((id) => (weights[id] ?? 0) >= minP);
  if (topK > 0) ids = ids.slice(0, topK);
  if (topP === 1) return { ids, weights };
  const wanted = topP * sum(ids, weights);
  let reached = 0;
  const left = ids.findIndex((id) => {
    reached += weights[id] ?? 0;
    return reached >= wanted;
  });
  return { ids: left < 0 ? ids : ids.slice(0, left + 1), weights };
}

/** The token of a row. */
export function chooseToken(logits: readonly number[], { sampling, index }: RowRequest): ChosenToken {
  const order = inOrder(logits);
  const token =
    sampling.temperature === 0 ? (order[0] ?? -1) : drawToken(logits, sampling, uniform(sampling.seed, index));
  if (sampling.logprobs < 0) return { token };
  const most = logits[order[0] ?? -1] ?? Number.NaN;
  const all = Math.log(logits.reduce((total, logit) => total + Math.exp(logit - most), 0));
  const logprobOf = (id: number): number => (logits[id] ?? Number.NaN) - most - all;
  const top = order.slice(0, sampling.logprobs).map((id) => ({ id, logprob: logprobOf(id) }));
  return { token, logprob: logprobOf(token), top };
}

/** The token that chance falls on, as tokens lie side by side in the order of ids. */
export function drawToken(logits: readonly number[], sampling: Sampling, chance: number): number {
  const { ids, weights } = leftByCuts(logits, sampling);
  const wanted = chance * sum(ids, weights);
  let passed = 0;
  for (const id of [...ids].sort((a, b) => a - b)) {
    passed += weights[id] ?? 0;
    if (passed > wanted) return id;
  }
  throw new Error("chance is not below 1");
}

/** In the order of ids. */
function sum(ids: readonly number[], weights: readonly number[]): number {
  return [...ids].sort((a, b) => a - b).reduce((total, id) => total + (weights[id] ?? 0), 0);
}
