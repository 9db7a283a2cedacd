import { expect, test } from "bun:test";
import { draftTokens } from "./prompt-lookup.ts";

test.each([
  ["nothing to go by", [], 4, []],
  ["no token occurs twice", [1, 2, 3], 4, []],
  ["what followed the same three tokens", [1, 2, 3, 4, 5, 9, 1, 2, 3], 2, [4, 5]],
  ["the latest place wins", [1, 2, 7, 1, 2, 8, 1, 2], 1, [8]],
  ["three tokens before two", [1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3], 1, [4]],
  ["two tokens, then one", [5, 6, 7, 9, 6, 8, 6], 1, [8]],
  ["no more than there is", [4, 4], 5, [4]],
  ["no more than asked for", [1, 2, 3, 1, 2, 3, 1], 2, [2, 3]],
  ["none asked for", [1, 1, 1], 0, []],
] as const)("%s", (_, ids, most, draft) => {
  expect(draftTokens(ids, most)).toEqual([...draft]);
});
