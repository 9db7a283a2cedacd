import { expect, test } from "bun:test";
import fc from "fast-check";
import { sharedBeyond } from "./shared-beginning.ts";

const BLOCK = 4;

test("whole blocks of two texts, where they are more than is known", () => {
  const text = fc.array(fc.nat(1), { maxLength: 30, size: "max" });
  fc.assert(
    fc.property(text, text, text, fc.nat(4), (beginning, a, b, knownBlocks) => {
      const [first, second] = [
        [...beginning, ...a],
        [...beginning, ...b],
      ];
      let same = 0;
      while (same < Math.min(first.length, second.length) && first[same] === second[same]) same++;
      const whole = same - (same % BLOCK);
      const known = knownBlocks * BLOCK;
      expect(sharedBeyond(known, first, second, BLOCK)).toBe(whole > known ? whole : 0);
    }),
  );
});

test("texts that part after what is known are told apart without reading what is known", () => {
  const known = Array.from({ length: 40 }, (_, index) => index);
  let reads = 0;
  const counted = new Proxy([...known, 1, 2, 3, 4, 5], {
    get(target, key, receiver) {
      if (key !== "length") reads++;
      return Reflect.get(target, key, receiver);
    },
  });
  expect(sharedBeyond(40, counted, [...known, 1, 2, 3, 5, 5], BLOCK)).toBe(0);
  expect(reads).toBeLessThanOrEqual(BLOCK);
  expect(sharedBeyond(40, counted, [...known, 1, 2, 3, 4, 6], BLOCK)).toBe(44);
});
