import { describe, expect, test } from "bun:test";
import { greedy } from "../../test/greedy-reference.ts";
import { MODEL_FOLDER } from "../../test/shipped-folder.ts";
import { StreamDecoder, Tokenizer } from "./tokenizer.ts";

const tokenizer = Tokenizer.open(MODEL_FOLDER);

test("encodes the reference prompts to the reference ids", () => {
  for (const { prompt, promptIds } of greedy) expect(tokenizer.encode(prompt)).toEqual([...promptIds]);
});

describe("special tokens", () => {
  const begin = { id: 1, content: "<s>", special: true, normalized: false };
  const definition = {
    version: "1.0",
    added_tokens: [begin],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
      special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
    },
    decoder: { type: "Fuse" },
    model: { type: "BPE", unk_token: "?", vocab: { "?": 0, "<s>": 1, a: 2, b: 3 }, merges: [] },
  };
  const withBegin = Tokenizer.open({ "tokenizer.json": new TextEncoder().encode(JSON.stringify(definition)) });
  test("are added unless the text has them: a text of a chat template has one at its start, not two", () => {
    expect(withBegin.encode("ab")).toEqual([1, 2, 3]);
    expect(withBegin.encode("ab", {})).toEqual([1, 2, 3]);
    expect(withBegin.encode("ab", { addSpecialTokens: true })).toEqual([1, 2, 3]);
    expect(withBegin.encode("ab", { addSpecialTokens: false })).toEqual([2, 3]);
    expect(withBegin.encode("<s>ab")).toEqual([1, 1, 2, 3]);
    expect(withBegin.encode("<s>ab", { addSpecialTokens: false })).toEqual([1, 2, 3]);
  });
  test("an option that is none is refused", () => {
    const encode = () => Reflect.apply(withBegin.encode, withBegin, ["ab", { addSpecialTokens: "no" }]);
    expect(encode).toThrow("Tokenizer.encode: `addSpecialTokens` must be true or false");
  });
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
