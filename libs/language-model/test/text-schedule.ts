// Texts, and steps that take them in every way.
import { RandomStream } from "../../../tests/random.ts";
import type { ModelItem, ModelStep } from "./row-bits-program.ts";

/** How long texts are. */
export interface Lengths {
  readonly length: number;
  /** Tokens that the first text has before, in steps of its own; with some, the others are forks of it. */
  readonly prefix: number;
}
/** Most tokens of a step. */
export const MAX_STEP_TOKENS = 40;

/** Three texts, and the steps that take them: decodes and prefills of several texts, forks, drafts. */
export function schedule(seed: number, { length, prefix }: Lengths, canPrefill: boolean) {
  const random = new RandomStream(seed);
  const texts = Array.from({ length: 3 }, () => Array.from({ length }, () => random.below(4099)));
  const stored = [prefix, 0, 0];
  const steps = inSteps(0, texts[0]?.slice(0, prefix) ?? [], MAX_STEP_TOKENS, canPrefill);
  while (stored.some((count) => count < length)) {
    const to = stored.indexOf(0);
    const from = random.below(3);
    const forked = stored[from] ?? 0;
    const fork = to >= 0 && forked > 0 && (prefix > 0 || random.below(2) === 0) ? { from, to } : undefined;
    if (fork !== undefined) {
      texts[to]?.splice(0, forked, ...(texts[from]?.slice(0, forked) ?? []));
      stored[to] = forked;
    }
    let room = MAX_STEP_TOKENS;
    const items: ModelItem[] = [];
    for (const [text, count] of stored.entries()) {
      const left = Math.min(room, length - count);
      if (left === 0 || (prefix > 0 && count === 0) || random.below(3) === 0) continue;
      const taken = Math.min(left, 1 + random.below(random.below(2) === 0 ? 3 : MAX_STEP_TOKENS));
      const drafts = Math.min(room - taken, random.below(3) === 0 ? 1 + random.below(4) : 0);
      const ids = texts[text]?.slice(count, count + taken) ?? [];
      items.push({ text, ids, drafted: Array.from({ length: drafts }, () => random.below(4099)) });
      room -= taken + drafts;
      stored[text] = count + taken;
    }
    if (items.length === 0 && fork === undefined) continue;
    steps.push({ ...(fork && { fork }), isPrefill: canPrefill && random.below(2) === 0, items });
  }
  return { texts, steps };
}

/** Steps that take tokens of one text, `most` at a time. */
export function inSteps(text: number, ids: readonly number[], most: number, isPrefill: boolean): ModelStep[] {
  return Array.from({ length: Math.ceil(ids.length / most) }, (_, step) => {
    return { isPrefill, items: [{ text, ids: ids.slice(step * most, (step + 1) * most), drafted: [] }] };
  });
}
