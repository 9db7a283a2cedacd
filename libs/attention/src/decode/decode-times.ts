/** Milliseconds spent in the parts of a step so far. */
export interface DecodeTimes {
  gatherMs: number;
  attentionMs: number;
  combineMs: number;
}
