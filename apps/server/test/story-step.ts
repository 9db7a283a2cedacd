// What four ranks would tell of a step: tokens in runs of eight by turns, and shares that are made up but sum to 1.
import type { EngineStep, Explanation } from "@lockstep/language-model";

export const RANKS = 4;
export const LAYERS = 6;
export const HEADS = 8;
/** Tokens in a row that one rank holds. */
export const INTERLEAVE = 8;

/** A text of the step, before it. */
export interface StoryText {
  readonly text: number;
  readonly promptTokens: number;
  readonly length: number;
  readonly label?: string;
}

/** A step that gives each text one token. */
export function explainedStep(step: number, texts: readonly StoryText[]): EngineStep {
  const headsOfRank = HEADS / RANKS;
  const wave = 1 + 0.25 * Math.sin(step / 7);
  const rows = texts.length;
  const times = {
    gatherMs: 1.9 * wave + 0.05 * rows,
    attentionMs: 3.1 * wave + 0.4 * rows,
    combineMs: 2.4 * wave + 0.1 * rows,
  };
  return {
    explanation: {
      step,
      kind: "decode",
      combine: "one-shot",
      ranks: Array.from({ length: RANKS }, (_, rank) => ({
        rank,
        dcpGroup: Array.from({ length: RANKS }, (_, place) => place),
        groupHeads: { start: 0, end: HEADS },
        ownHeads: { start: rank * headsOfRank, end: (rank + 1) * headsOfRank },
        texts: texts.map(({ text, length }) => {
          const runs = runsOf(rank, length + 1);
          const held = runs.reduce((sum, { start, end }) => sum + end - start, 0);
          return { text, length: length + 1, held, runs };
        }),
        attention: { collectives: 2 * LAYERS, bytesReceived: 12_288 * rows },
        tensorParallel: { collectives: 2 * LAYERS + 1, bytesReceived: 24_576 * rows },
      })),
      queries: texts.map(({ text, length }) => ({ text, position: length, shares: sharesOf(text, length) })),
    },
    requests: texts.map(({ text, promptTokens, length, label }) => ({
      text,
      promptTokens,
      length,
      ...(label === undefined ? {} : { label }),
    })),
    times: { ...times, stepMs: times.gatherMs + times.attentionMs + times.combineMs + 5.2 },
  };
}

/** Positions that a rank holds of a text. */
function runsOf(rank: number, length: number): { start: number; end: number }[] {
  const runs: { start: number; end: number }[] = [];
  for (let start = rank * INTERLEAVE; start < length; start += RANKS * INTERLEAVE) {
    runs.push({ start, end: Math.min(length, start + INTERLEAVE) });
  }
  return runs;
}

/** Shares by layer, head and rank: heads look at different places, which move as the text grows. */
function sharesOf(text: number, length: number): Explanation["queries"][number]["shares"] {
  return Array.from({ length: LAYERS }, (_, layer) =>
    Array.from({ length: HEADS }, (_, head) => {
      const scores = Array.from({ length: RANKS }, (_, rank) =>
        Math.exp(1.4 * Math.sin(1.7 * head + 0.9 * layer + 1.57 * rank + length / 11 + text)),
      );
      const sum = scores.reduce((total, score) => total + score, 0);
      return scores.map((score) => score / sum);
    }),
  );
}
