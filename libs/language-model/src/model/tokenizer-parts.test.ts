import { expect, test } from "bun:test";
import { ModelError } from "../errors.ts";
import { checkMetaspaceSplit, checkedPart, type PartKind } from "./tokenizer-parts.ts";

const REPLACE = { type: "Replace", pattern: { String: "a" }, content: "b" };
const SPLIT = { type: "Split", pattern: { Regex: "\\s" }, behavior: "Isolated", invert: false };

test.each<[PartKind, object, string]>([
  ["normalizer", { ...REPLACE, pattern: { Glob: "*" } }, "pattern"],
  ["normalizer", { ...REPLACE, pattern: { String: "a", Regex: "a" } }, "pattern"],
  ["decoder", { ...REPLACE, pattern: null }, "pattern"],
  ["decoder", { type: "Replace", pattern: { String: "a" } }, "content"],
  ["normalizer", { type: "Prepend" }, "prepend"],
  ["normalizer", { type: "Strip", strip_left: true }, "strip_right"],
  ["pre_tokenizer", { type: "Split" }, "pattern"],
  ["pre_tokenizer", { ...SPLIT, behavior: "MergedWithPrevious" }, "behavior"],
  ["pre_tokenizer", { ...SPLIT, behavior: "removed" }, "behavior"],
  ["pre_tokenizer", { ...SPLIT, invert: true }, "inverted"],
  ["pre_tokenizer", { type: "Punctuation" }, "behavior"],
  ["pre_tokenizer", { type: "FixedLength", length: 0.5 }, "length"],
  ["pre_tokenizer", { type: "Metaspace", replacement: "ab" }, "replacement"],
  ["pre_tokenizer", { type: "Metaspace", prepend_scheme: "sometimes" }, "prepend_scheme"],
  ["decoder", { type: "Strip", content: " ", start: -1, stop: 0 }, "start"],
  ["decoder", { type: "CTC" }, "CTC"],
  ["decoder", { type: "Sequence" }, "decoders"],
  ["decoder", { type: "Sequence", decoders: [{ type: "Fuse" }, { type: "Strip" }] }, "content"],
  ["post_processor", { single: [] }, "type"],
])("a %s that would be believed is refused: %j", (kind, part, named) => {
  const refused = (): unknown => checkedPart("tokenizer.json", kind, part);
  expect(refused).toThrow(ModelError);
  expect(refused).toThrow(named);
});

test("what stays as it is", () => {
  for (const part of [null, { type: "NFC" }, SPLIT, { ...SPLIT, behavior: "Removed", invert: true }]) {
    expect(checkedPart("tokenizer.json", "pre_tokenizer", part)).toEqual(part);
  }
});

test("what the library reads otherwise is said in its words, in lists too", () => {
  const parts = {
    type: "Sequence",
    decoders: [
      { ...REPLACE, content: "$1$" },
      { type: "BPEDecoder" },
      { type: "Metaspace", replacement: "_", add_prefix_space: false },
      { type: "Metaspace", prepend_scheme: "first" },
    ],
  };
  expect(checkedPart("tokenizer.json", "decoder", parts)).toEqual({
    type: "Sequence",
    decoders: [
      { ...REPLACE, content: "$$1$$" },
      { type: "BPEDecoder", suffix: "</w>" },
      { type: "Replace", pattern: { String: "_" }, content: " " },
      { type: "Metaspace", prepend_scheme: "first" },
    ],
  });
  const before = { type: "Metaspace", add_prefix_space: false };
  expect(checkedPart("tokenizer.json", "pre_tokenizer", before)).toMatchObject({ prepend_scheme: "never" });
});

test("a Metaspace that splits goes with tokens of one word only", () => {
  const metaspace = { type: "Metaspace" };
  for (const splits of [metaspace, { type: "Sequence", pretokenizers: [metaspace] }]) {
    expect(() => checkMetaspaceSplit("tokenizer.json", splits, ["a", "▁", "▁a"])).not.toThrow();
    expect(() => checkMetaspaceSplit("tokenizer.json", splits, ["a▁b"])).toThrow(ModelError);
    expect(() => checkMetaspaceSplit("tokenizer.json", splits, ["▁▁"])).toThrow(ModelError);
  }
  expect(() => checkMetaspaceSplit("tokenizer.json", { ...metaspace, split: false }, ["a▁b"])).not.toThrow();
  expect(() => checkMetaspaceSplit("tokenizer.json", null, ["a▁b"])).not.toThrow();
});

test("parts that would make a text as long as memory are refused at once", () => {
  const twice = (pattern: object) => ({ type: "Replace", pattern, content: "xx" });
  const chain = (count: number, part: object) => ({
    type: "Sequence",
    normalizers: Array.from({ length: count }, () => part),
  });
  const check = (part: object) => checkedPart("tokenizer.json", "normalizer", part);
  expect(() => check(chain(60, twice({ Regex: "(.)" })))).toThrow("at most 65536 times longer");
  expect(() => check(chain(60, { ...twice({ String: "" }), content: "x" }))).toThrow(ModelError);
  expect(() => check(chain(60, { ...twice({ Regex: "x*" }), content: "x" }))).toThrow(ModelError);
  expect(() => check(chain(2, chain(20, twice({ String: "a" }))))).toThrow(ModelError);
  expect(() => check({ type: "Prepend", prepend: "x".repeat(1e6) })).toThrow(ModelError);
  // What models have: one character for another, many times, and a few longer ones.
  expect(() => check(chain(60, { ...twice({ Regex: " {2,}" }), content: " " }))).not.toThrow();
  expect(() => check(chain(8, { ...twice({ String: "\u2026" }), content: "..." }))).not.toThrow();
});
