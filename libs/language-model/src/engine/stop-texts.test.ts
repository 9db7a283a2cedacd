import { describe, expect, test } from "bun:test";
import { ArgumentError } from "@lockstep/tensor";
import fc from "fast-check";
import { StopTexts } from "./stop-texts.ts";

/** What the parts give, and whether they stopped; checks what is held back on the way. */
function streamed(parts: readonly string[], stop: readonly string[]): { text: string; stopped: boolean } {
  const stops = new StopTexts(stop);
  const longest = Math.max(1, ...stop.map((text) => text.length));
  let text = "";
  for (const part of parts) {
    const given = stops.push(part);
    text += given.text;
    expect(stops.heldLength).toBeLessThan(longest);
    if (given.stopped) {
      expect(stops.push("more")).toEqual({ text: "", stopped: true });
      expect(stops.end()).toEqual({ text: "", stopped: true });
      return { text, stopped: true };
    }
  }
  const last = stops.end();
  return { text: text + last.text, stopped: last.stopped };
}

/** The same, found in the whole text. */
function whole(text: string, stop: readonly string[]): { text: string; stopped: boolean } {
  const found = stop.map((each) => text.indexOf(each)).filter((at) => at >= 0);
  return found.length === 0 ? { text, stopped: false } : { text: text.slice(0, Math.min(...found)), stopped: true };
}

/** Cuts a text where `cuts` say, between any two UTF-16 units. */
function cut(text: string, cuts: readonly number[]): string[] {
  const places = [0, ...cuts.map((at) => at % (text.length + 1)).sort((a, b) => a - b), text.length];
  return places.slice(1).map((end, index) => text.slice(places[index], end));
}

// Few letters, so that stop texts overlap, begin in one another and come in half; two emoji share their first half.
const letters = (minLength: number, maxLength: number) =>
  fc
    .array(fc.constantFrom("a", "b", "ab", "aab", "\n", "😀", "😁"), { minLength, maxLength })
    .map((all) => all.join(""));

test("any text in any parts ends before its first stop text, with as little held back as may become one", () => {
  const stops = fc.array(letters(1, 5), { maxLength: 16 });
  fc.assert(
    fc.property(letters(0, 40), stops, fc.array(fc.nat(100), { maxLength: 30 }), (text, stop, cuts) => {
      expect(streamed(cut(text, cuts), stop)).toEqual(whole(text, stop));
    }),
    { seed: 15, numRuns: 5000 },
  );
});

test("what cannot become a stop text comes at once", () => {
  const held = fc.tuple(letters(0, 20), fc.array(letters(1, 4), { minLength: 1, maxLength: 4 }));
  fc.assert(
    fc.property(held, ([text, stop]) => {
      const stops = new StopTexts(stop);
      const { stopped } = stops.push(text);
      if (stopped) return;
      const beginsOne = (length: number): boolean =>
        stop.some((each) => each.length > length && each.startsWith(text.slice(text.length - length)));
      const lengths = Array.from({ length: text.length + 1 }, (_, length) => length).filter(beginsOne);
      expect(stops.heldLength).toBe(Math.max(...lengths));
    }),
    { seed: 16, numRuns: 2000 },
  );
});

test("whole characters in, whole characters out", () => {
  const stops = new StopTexts(["😀!"]);
  const parts = ["x😁", "😀", "😁", "😀", "!"].map((part) => stops.push(part));
  expect(parts.map(({ text }) => text)).toEqual(["x😁", "", "😀😁", "", ""]);
  expect(parts.at(-1)?.stopped).toBe(true);
});

test("a stop text that began earlier and comes whole later is the first", () => {
  expect(streamed(["xab", "c", "d"], ["abcd", "c"])).toEqual({ text: "x", stopped: true });
  expect(streamed(["xab", "c", "e"], ["abcd", "c"])).toEqual({ text: "xab", stopped: true });
  expect(streamed(["xab", "c"], ["abcd", "c"])).toEqual({ text: "xab", stopped: true });
});

describe("what are no stop texts is refused", () => {
  const many = Array.from({ length: 17 }, (_, index) => `${index}`);
  test.each<[unknown, string]>([
    ["", "one of 0 characters"],
    ["x".repeat(257), "one of 257 characters"],
    [["a", ""], "one of 0 characters"],
    [many, "17 texts"],
    [5, "but is 5"],
    [[5], "up to 16 texts of 1 to 256 characters"],
    [null, "null"],
    [{ length: 1 }, "up to 16 texts"],
    ["\uD83D", "half of a surrogate pair"],
    [["ok", "\uDE00x"], "half of a surrogate pair"],
  ])("%p", (stop, message) => {
    expect(() => Reflect.construct(StopTexts, [stop, "Engine.generate"])).toThrow(ArgumentError);
    expect(() => Reflect.construct(StopTexts, [stop, "Engine.generate"])).toThrow(message);
    expect(() => Reflect.construct(StopTexts, [stop, "Engine.generate"])).toThrow("Engine.generate");
  });
  test("as many and as long as may be are taken", () => {
    const stop = many.slice(0, 16).map((text) => text.padEnd(256, "x"));
    expect(streamed([`a${stop[7]}`], stop)).toEqual({ text: "a", stopped: true });
  });
});
