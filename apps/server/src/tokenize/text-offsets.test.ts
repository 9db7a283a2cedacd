import { expect, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { openModel } from "@lockstep/language-model";
import fc from "fast-check";
import { TextOffsets } from "./text-offsets.ts";

const { tokenizer } = openModel(fileURLToPath(new URL("../../../demo/model", import.meta.url)));
const decode = (tokens: readonly number[]): string => tokenizer.decode(tokens);
const encode = (text: string): number[] => tokenizer.encode(text, { addSpecialTokens: false });

function offsetsOf(prompt: readonly number[], tokens: readonly number[]): number[] {
  const offsets = new TextOffsets(decode, prompt);
  return tokens.map((token) => offsets.push(token));
}

test("a token that goes on with a character begins where that does", () => {
  const prompt = encode("In the beginning");
  const tokens = encode("In the beginning 🙂, é").slice(prompt.length);
  const offsets = offsetsOf(prompt, tokens);
  const text = decode([...prompt, ...tokens]).slice(decode(prompt).length);
  expect(text).toBe(" 🙂, é");
  // The emoji has four bytes, each a token, and is one character.
  expect(offsets.filter((offset) => offset === 1)).toHaveLength(4);
  expect(Math.max(...offsets)).toBeLessThan([...text].length);
});

test("each token begins behind the whole characters of those before it, whatever the text", () => {
  const words = fc.constantFrom(
    "God ",
    "the",
    " light",
    "\n",
    "  ",
    "🙂",
    "👩‍👩‍👧‍👦",
    "🇫🇷",
    "語",
    "日本",
    "é",
    "e\u0301",
    "ß",
  );
  const texts = fc.array(fc.oneof(words, fc.string({ unit: "grapheme", maxLength: 3 })), { maxLength: 25 });
  let severals = 0;
  fc.assert(
    fc.property(texts, texts, (before, after) => {
      const prompt = encode(`Psa ${before.join("")}`);
      const tokens = encode(`x${after.join("")}`);
      const known = decode(prompt).length;
      const offsets = offsetsOf(prompt, tokens);
      const text = [...decode([...prompt, ...tokens]).slice(known)];
      for (const [index, offset] of offsets.entries()) {
        const whole = decode([...prompt, ...tokens.slice(0, index)])
          .slice(known)
          .replace(/\uFFFD+$/, "");
        expect(text.slice(0, offset).join("")).toBe(whole);
        if (offset === offsets[index - 1]) severals++;
      }
    }),
    { numRuns: 200 },
  );
  expect(severals).toBeGreaterThan(100);
});
