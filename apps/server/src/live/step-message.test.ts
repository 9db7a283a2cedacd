import { expect, test } from "bun:test";
import type { EngineStep } from "@lockstep/language-model";
import { explainedStep, HEADS, INTERLEAVE, LAYERS, RANKS } from "../../test/story-step.ts";
import { MOST_POSITIONS, MOST_PROMPTS, MOST_SHARES, MOST_TEXTS, stepMessage } from "./step-message.ts";

const textOf = (text: number, length: number, label?: string) => ({
  text,
  promptTokens: 5,
  length,
  ...(label === undefined ? {} : { label }),
});

test("owners are those of the explained runs, in order, and shares are thousandths that sum to 1000", () => {
  const step = explainedStep(3, [textOf(7, 75, "req-7/0"), textOf(9, 12)]);
  const message = stepMessage(step);
  expect(message).toMatchObject({ step: 3, kind: "decode", combine: "one-shot", left: 0, prompts: [["req-7/0", 5]] });
  const [long, short] = message.texts;
  expect(long).toMatchObject({ text: 7, id: "req-7/0", promptTokens: 5, length: 76, from: 0, position: 75 });
  expect(short?.id).toBeUndefined();
  for (const text of message.texts) {
    const holders = text.owners.flatMap(([place, tokens]) => Array.from({ length: tokens }, () => place));
    expect(holders).toEqual(
      Array.from({ length: text.length }, (_, position) => Math.floor(position / INTERLEAVE) % RANKS),
    );
    expect(text.held).toEqual(
      Array.from({ length: RANKS }, (_, rank) => holders.filter((place) => place === rank).length),
    );
    expect(text.shares?.length).toBe(LAYERS);
    for (const places of text.shares?.flat() ?? []) {
      expect(Math.abs(places.reduce((sum, share) => sum + share, 0) - 1000)).toBeLessThanOrEqual(RANKS / 2);
    }
  }
  const exact = step.explanation.queries[0]?.shares[2]?.[3]?.[1] ?? Number.NaN;
  expect(long?.shares?.[2]?.[3]?.[1]).toBe(Math.round(exact * 1000));
  expect(message.ranks.map(({ heads }) => heads)).toEqual([
    [0, 2],
    [2, 4],
    [4, 6],
    [6, 8],
  ]);
});

test("of groups that hold the same tokens for other heads, the first stands for all", () => {
  const step = explainedStep(1, [textOf(0, 40)]);
  const ranks = step.explanation.ranks.map((rank, index) => ({
    ...rank,
    dcpGroup: index < 2 ? [0, 1] : [2, 3],
    texts: [
      { text: 0, length: 41, held: index % 2 === 0 ? 32 : 9, runs: [index % 2 === 0 ? run(0, 32) : run(32, 41)] },
    ],
  }));
  const [text] = stepMessage({ ...step, explanation: { ...step.explanation, ranks } }).texts;
  expect(text?.owners).toEqual([
    [0, 32],
    [1, 9],
  ]);
  expect(text?.held).toEqual([32, 9, 32, 9]);
});

test("of several tokens of one text, the last is explained", () => {
  const step = explainedStep(1, [textOf(0, 20)]);
  const [query] = step.explanation.queries;
  if (query === undefined) throw new Error("a step that decodes has queries");
  const queries = [{ ...query, position: 19 }, query];
  const [text] = stepMessage({ ...step, explanation: { ...step.explanation, queries } }).texts;
  expect(text?.position).toBe(20);
});

test("however many texts, however long, layers and heads there are, a message is bounded", () => {
  const texts = Array.from({ length: 300 }, (_, text) => textOf(text, 5000 + text, `req-${text}/0`));
  const step = explainedStep(1, texts);
  const queries = step.explanation.queries.map((query) => ({
    ...query,
    shares: Array.from({ length: 60 }, (_, layer) => query.shares[layer % LAYERS] ?? []),
  }));
  const message = stepMessage({ ...step, explanation: { ...step.explanation, queries } });
  expect(message.texts.length).toBe(MOST_TEXTS);
  expect(message.left).toBe(300 - MOST_TEXTS);
  expect(message.prompts.length).toBe(MOST_PROMPTS);
  for (const { owners, from, length } of message.texts) {
    expect(length - from).toBe(MOST_POSITIONS);
    expect(owners.reduce((sum, [, tokens]) => sum + tokens, 0)).toBe(MOST_POSITIONS);
  }
  const told = message.texts.filter(({ shares }) => shares !== undefined).length;
  expect(told).toBe(Math.min(MOST_TEXTS, Math.floor(MOST_SHARES / (60 * HEADS * RANKS))));
  expect(JSON.stringify(message).length).toBeLessThan(256 << 10);
});

test("a step of prompts alone has no shares", () => {
  const step = explainedStep(1, [textOf(0, 20)]);
  const prefill: EngineStep = { ...step, explanation: { ...step.explanation, kind: "prefill", queries: [] } };
  const [text] = stepMessage(prefill).texts;
  expect(text?.length).toBe(21);
  expect(text?.shares).toBeUndefined();
  expect(text?.position).toBeUndefined();
});

function run(start: number, end: number): { start: number; end: number } {
  return { start, end };
}
