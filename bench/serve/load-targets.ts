// How fast many clients get their texts, and that they get the right ones.
import { makeAsks } from "./asks.ts";
import { blocksHeld } from "./at-rest.ts";
import { type Answered, load } from "./load.ts";
import type { ServeBenchOptions } from "./options.ts";
import { type ServeOptions, serve } from "./served.ts";
import type { Targets } from "./targets.ts";
import { countWrong, textsAlone } from "./texts-alone.ts";

const quantile = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;

/** The rates of answers that took `ms` together. */
function rates(answers: readonly Answered[], ms: number): { perSecond: number; median: number; p95: number } {
  const first = answers.filter(({ error }) => error === undefined).map(({ firstMs }) => firstMs);
  const sorted = first.toSorted((a, b) => a - b);
  const sum = answers.reduce((total, answer) => total + answer.tokens, 0);
  return { perSecond: (sum * 1000) / ms, median: quantile(sorted, 0.5), p95: quantile(sorted, 0.95) };
}

/** Asks for all texts twice, leaving one in ten the second time, and compares each with that of its request alone. */
export async function measureLoad(
  { clients, requests, tokens }: ServeBenchOptions,
  started: ServeOptions,
  targets: Targets,
): Promise<void> {
  const asks = makeAsks(requests, tokens, 0, 2);
  const leaving = makeAsks(requests, tokens, 0.1, 3);
  const answers: Answered[] = [];
  {
    await using server = await serve(started);
    // Compilers settle first.
    await load(server.url, makeAsks(clients * 3, tokens, 0, 1), clients);
    const from = performance.now();
    answers.push(...(await load(server.url, asks, clients)));
    const { perSecond, median, p95 } = rates(answers, performance.now() - from);
    const errors = answers.filter(({ error }) => error !== undefined);
    targets.add("tokens a second", perSecond.toFixed(0), "at least 690", perSecond >= 690);
    targets.add("first token, median", `${median.toFixed(0)} ms`, "at most 500 ms", median <= 500);
    targets.tell("first token, 95 of 100", `${p95.toFixed(0)} ms`);
    targets.none("errors", errors.length);
    for (const { error } of errors.slice(0, 3)) console.error(`error: ${error}`);

    const left = await load(server.url, leaving, clients);
    const held = await blocksHeld(server);
    targets.none(`KV blocks held after ${left.filter(({ hasLeft }) => hasLeft).length} left`, held);
    answers.push(...left);
  }
  const alone = await textsAlone(started, [...asks, ...leaving]);
  targets.none(`wrong texts of ${answers.length}`, countWrong(answers, alone));
}
