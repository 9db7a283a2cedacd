import { expect, test } from "bun:test";
import type { ActivityEvent } from "../activity.ts";
import { LONGEST_TOKEN, MOST_TEXTS, MOST_TOKENS, TokenBatch } from "./token-batch.ts";

const textOf = (token: number): string => `t${token}`;
const start = (id: string): ActivityEvent => ({
  kind: "start",
  id,
  requestId: id,
  at: 1,
  route: "chat",
  maxTokens: undefined,
});
const tokens = (id: string, ...ids: number[]): ActivityEvent => ({ kind: "tokens", id, at: 1, text: "x", tokens: ids });
const end = (id: string): ActivityEvent => ({ kind: "end", id, at: 1, reason: "stop", usage: undefined });

test("gathers what happened to each text, and forgets it when it is taken", () => {
  const batch = new TokenBatch(textOf);
  expect(batch.take()).toBeUndefined();
  for (const event of [start("a"), tokens("a", 1, 2), tokens("b", 9), tokens("a", 3), end("a")]) batch.add(event);
  expect(batch.take()).toEqual({
    texts: [
      { id: "a", route: "chat", tokens: ["t1", "t2", "t3"], ended: "stop" },
      { id: "b", tokens: ["t9"] },
    ],
    left: 0,
  });
  expect(batch.take()).toBeUndefined();
  batch.add(tokens("a", 4));
  batch.clear();
  expect(batch.take()).toBeUndefined();
});

test("where texts are not told, tokens are counted", () => {
  const batch = new TokenBatch(() => "");
  batch.add(tokens("a", 1, 2));
  expect(batch.take()?.texts).toEqual([{ id: "a", tokens: ["", ""] }]);
});

test("holds a bounded number of texts, of tokens and of characters", () => {
  const batch = new TokenBatch((token) => `${token} `.repeat(1000));
  for (let text = 0; text < MOST_TEXTS + 500; text++) batch.add(tokens(`text ${text}`, 1));
  for (let token = 0; token < 10_000; token++) batch.add(tokens("text 3", token));
  const message = batch.take();
  expect(message?.texts.length).toBe(MOST_TEXTS);
  expect(message?.left).toBe(MOST_TEXTS);
  const long = message?.texts[3];
  expect(long?.tokens?.length).toBe(MOST_TOKENS);
  expect(long?.skipped).toBe(10_001 - MOST_TOKENS);
  expect(long?.tokens?.at(-1)).toBe("9999 ".repeat(1000).slice(0, LONGEST_TOKEN));
});
