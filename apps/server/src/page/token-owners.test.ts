// What the page concludes from explained steps: which rank holds which token.
import { beforeEach, expect, test } from "bun:test";
import { explainedStep, INTERLEAVE, RANKS } from "../../test/story-step.ts";
import { stepMessage } from "../live/step-message.ts";
import { forgetOwners, holdersOf, learnOwners, tokensInARow } from "./token-owners.js";

const learn = (promptTokens: number, length: number): void =>
  learnOwners(stepMessage(explainedStep(1, [{ text: 0, promptTokens, length, label: "a/0" }])));

beforeEach(forgetOwners);

test("how many tokens in a row go to one rank is not known before such a row has ended", () => {
  for (let length = 0; length < INTERLEAVE; length++) {
    learn(1, length);
    expect([tokensInARow(), holdersOf("a/0", 0)]).toEqual([0, undefined]);
  }
  for (let length = INTERLEAVE; length < 700; length++) {
    forgetOwners();
    learn(1, length);
    expect(tokensInARow()).toBe(INTERLEAVE);
  }
});

test("each token's holder is the rank whose turn it is, counted from the prompt's first token", () => {
  learn(13, 60);
  for (let index = 0; index < 200; index++) {
    expect(holdersOf("a/0", index)).toEqual([Math.floor((13 + index) / INTERLEAVE) % RANKS]);
  }
  expect(holdersOf("b/0", 0)).toBeUndefined();
});

test("where groups hold the same tokens for other heads, each has a holder; alone, a rank holds all", () => {
  const message = stepMessage(explainedStep(1, [{ text: 0, promptTokens: 3, length: 60, label: "a/0" }]));
  const [text] = message.texts;
  if (text === undefined) throw new Error("the step has a text");
  const owners = Array.from({ length: 8 }, (_, run) => [run % 2, 8] as const);
  learnOwners({
    ...message,
    texts: [{ ...text, owners }],
    ranks: message.ranks.map((rank, index) => ({ ...rank, group: index < 2 ? [0, 1] : [2, 3] })),
  });
  expect([0, 4, 5, 12, 13].map((index) => holdersOf("a/0", index))).toEqual([
    [0, 2],
    [0, 2],
    [1, 3],
    [1, 3],
    [0, 2],
  ]);
  forgetOwners();
  const [alone] = message.ranks;
  if (alone === undefined) throw new Error("the step has ranks");
  learnOwners({ ...message, ranks: [{ ...alone, group: [0] }], texts: [{ ...text, owners: [[0, 61]] }] });
  expect([0, 500].map((index) => holdersOf("a/0", index))).toEqual([[0], [0]]);
});

test("a bounded number of texts is known: those that were told of last", () => {
  for (let text = 0; text < 2000; text++) {
    learnOwners(stepMessage(explainedStep(1, [{ text, promptTokens: 1, length: 40, label: `${text}/0` }])));
  }
  expect(holdersOf("0/0", 0)).toBeUndefined();
  expect(holdersOf("1999/0", 0)).toEqual([0]);
});
