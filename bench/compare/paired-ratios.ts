/** Two-sided 95 % points of Student's t by degrees of freedom, from 1. */
const T_95 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131];
const LARGE = 1.96;

/** A ratio of times, and the interval that holds the true one with 95 %. */
export interface PairedRatio {
  readonly ratio: number;
  readonly low: number;
  readonly high: number;
}

/**
 * The mean of the ratios after / before of pairs, and its interval, both of the ratios' logarithms. One pair has no
 * interval: it is from 0 to infinity.
 */
export function pairedRatio(before: readonly number[], after: readonly number[]): PairedRatio {
  const logs = before.map((seconds, pair) => Math.log((after[pair] ?? Number.NaN) / seconds));
  const mean = logs.reduce((sum, log) => sum + log, 0) / logs.length;
  const freedom = logs.length - 1;
  const variance = logs.reduce((sum, log) => sum + (log - mean) ** 2, 0) / Math.max(1, freedom);
  const half =
    freedom < 1
      ? Number.POSITIVE_INFINITY
      : ((T_95[freedom - 1] ?? LARGE) * Math.sqrt(variance)) / Math.sqrt(logs.length);
  return { ratio: Math.exp(mean), low: Math.exp(mean - half), high: Math.exp(mean + half) };
}
