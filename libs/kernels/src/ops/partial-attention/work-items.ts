import type { AttentionInputPlan } from "./attention-inputs.ts";

/** Some consecutive query tokens of one sequence whose keys one workgroup reads together. */
export interface WorkItem {
  readonly firstToken: number;
  tokens: number;
  /** Local indexes [start, end) that at least one of the tokens sees. */
  start: number;
  end: number;
}

/**
 * Groups query tokens into items of at most `mostTokens`. Tokens share an item only if they follow each other in one
 * sequence and their ranges touch, so that every key of an item is seen by one of its tokens.
 */
export function workItems(plan: AttentionInputPlan, mostTokens: number): WorkItem[] {
  const items: WorkItem[] = [];
  let last: WorkItem | undefined;
  for (let token = 0; token < plan.tokens; token++) {
    const start = plan.starts[token] ?? 0;
    const end = plan.ends[token] ?? 0;
    const joins =
      last !== undefined &&
      last.tokens < mostTokens &&
      plan.sequences[token] === plan.sequences[last.firstToken] &&
      start < end &&
      last.start < last.end &&
      start <= last.end &&
      last.start <= end;
    if (joins && last !== undefined) {
      last.tokens++;
      last.start = Math.min(last.start, start);
      last.end = Math.max(last.end, end);
    } else {
      last =
        start < end ? { firstToken: token, tokens: 1, start, end } : { firstToken: token, tokens: 1, start: 0, end: 0 };
      items.push(last);
    }
  }
  return items;
}
