import { expect, test } from "bun:test";
import { ArgumentError } from "@lockstep/tensor";
import fc from "fast-check";
import { MODEL_FOLDER } from "../../test/shipped-folder.ts";
import { Tokenizer } from "../model/tokenizer.ts";
import { TextStream } from "./text-stream.ts";

const tokenizer = Tokenizer.open(MODEL_FOLDER);

function streamed(tokens: readonly number[], stop: readonly string[], before: readonly number[] = []) {
  const stream = new TextStream(tokenizer, before, stop);
  let text = "";
  for (const token of tokens) {
    const part = stream.push(token);
    text += part.text;
    if (part.stopped) return { text, stopped: true };
  }
  const last = stream.end();
  return { text: text + last.text, stopped: last.stopped };
}

test("any tokens give their text up to the first stop text", () => {
  const tokens = fc.array(fc.oneof(fc.nat(300), fc.nat(4100)), { maxLength: 40 });
  const stops = fc.array(fc.string({ minLength: 1, maxLength: 2, unit: fc.constantFrom(..."aeto .\n") }), {
    maxLength: 3,
  });
  fc.assert(
    fc.property(tokens, stops, (ids, stop) => {
      const all = tokenizer.decode(ids);
      const found = stop.map((each) => all.indexOf(each)).filter((at) => at >= 0);
      const text = found.length === 0 ? all : all.slice(0, Math.min(...found));
      expect(streamed(ids, stop)).toEqual({ text, stopped: found.length > 0 });
    }),
    { seed: 17, numRuns: 1000 },
  );
});

test("a stop text over several tokens, and one of a character of several", () => {
  const ids = tokenizer.encode("Once upon a time 😀 there was");
  expect(streamed(ids, ["time 😀 th"])).toEqual({ text: "Once upon a ", stopped: true });
  expect(streamed(ids, ["😀"])).toEqual({ text: "Once upon a time ", stopped: true });
  expect(streamed(ids, ["nothing of it"])).toEqual({ text: "Once upon a time 😀 there was", stopped: false });
});

test("what the text ends with and might have become a stop text comes at the end", () => {
  const stream = new TextStream(tokenizer, [], "was it");
  let text = "";
  for (const id of tokenizer.encode("there was")) text += stream.push(id).text;
  expect(text).toBe("there ");
  expect(stream.end()).toEqual({ text: "was", stopped: false });
});

test("the prompt is not repeated, and no stop text is found in it", () => {
  const prompt = tokenizer.encode("The end. ");
  const ids = tokenizer.encode("And more.");
  expect(streamed(ids, ["end"], prompt)).toEqual({ text: "And more.", stopped: false });
});

test("an unfinished character shows at the end, and may end a text", () => {
  const [first = 0] = tokenizer.encode("😀");
  expect(streamed([first], [])).toEqual({ text: "\uFFFD", stopped: false });
  expect(streamed([first], ["\uFFFD"])).toEqual({ text: "", stopped: true });
});

test("stop texts that are none name who was asked", () => {
  expect(() => new TextStream(tokenizer, [], [""], "Engine.generate")).toThrow(ArgumentError);
  expect(() => new TextStream(tokenizer, [], [""], "Engine.generate")).toThrow("Engine.generate");
});
