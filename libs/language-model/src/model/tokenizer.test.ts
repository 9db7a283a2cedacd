import { expect, test } from "bun:test";
import { greedy } from "../../test/greedy-reference.ts";
import { MODEL_FOLDER } from "../../test/shipped-folder.ts";
import { StreamDecoder, Tokenizer } from "./tokenizer.ts";

const tokenizer = Tokenizer.open(MODEL_FOLDER);

test("encodes the reference prompts to the reference ids", () => {
  for (const { prompt, promptIds } of greedy) expect(tokenizer.encode(prompt)).toEqual([...promptIds]);
});

test("decoding token by token gives the text that decoding at once gives", () => {
  for (const { promptIds, greedyIds } of greedy) {
    const decoder = new StreamDecoder(tokenizer, promptIds);
    let text = "";
    for (const id of greedyIds) text += decoder.push(id);
    expect(text + decoder.end()).toBe(tokenizer.decode(greedyIds));
  }
});

test("a character made of several tokens comes out whole", () => {
  const decoder = new StreamDecoder(tokenizer);
  const pieces = tokenizer.encode("so: 😀 ö").map((id) => decoder.push(id));
  expect(pieces).toContain("😀");
  expect(pieces.join("")).toBe("so: 😀 ö");
  expect(pieces.join("")).not.toContain("\uFFFD");
});

test("an unfinished character shows at the end", () => {
  const decoder = new StreamDecoder(tokenizer);
  const [first = 0] = tokenizer.encode("😀");
  expect(decoder.push(first)).toBe("");
  expect(decoder.end()).toBe("\uFFFD");
});

test("nothing decodes to nothing", () => {
  expect(tokenizer.decode([])).toBe("");
  expect(tokenizer.encode("")).toEqual([]);
});
