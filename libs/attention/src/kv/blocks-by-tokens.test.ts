import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { BlocksByTokens, hashOfTokens } from "./blocks-by-tokens.ts";

const SIZE = 3;

describe.each([
  ["hashes of all sorts", hashOfTokens],
  ["one hash for all", () => 7],
])("%s", (_, hash) => {
  test("a block is found by its own tokens, wherever they stand, and by no others", () => {
    const tokens = fc.array(fc.integer({ min: 0, max: 2 }), { minLength: SIZE, maxLength: SIZE });
    const action = fc.record({ tokens, isDeleted: fc.boolean(), before: fc.nat(3) });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 40, size: "max" }), (actions) => {
        const blocks = new BlocksByTokens<{ readonly tokens: readonly number[] }>(hash);
        const model = new Map<string, { readonly tokens: readonly number[] }>();
        for (const { tokens, isDeleted, before } of actions) {
          const text = [...Array<number>(before).fill(9), ...tokens, 9];
          const found = blocks.find(text, before, SIZE);
          expect(found).toBe(model.get(tokens.join()));
          expect(blocks.find(text, before, SIZE + 1)).toBeUndefined();
          if (found === undefined) {
            const added = { tokens };
            blocks.add(added);
            model.set(tokens.join(), added);
          } else if (isDeleted) {
            blocks.delete(found);
            model.delete(tokens.join());
          }
          expect(new Set(blocks.list())).toEqual(new Set(model.values()));
        }
        blocks.clear();
        expect(blocks.list()).toEqual([]);
      }),
    );
  });
});

test("the hash tells tokens that are alike apart", () => {
  const hashes = new Set<number>();
  for (let a = 0; a < 100; a++) for (let b = 0; b < 100; b++) hashes.add(hashOfTokens([a, b, 0], 0, 3));
  // Of numbers drawn at random one or two pairs in a hundred runs would be the same.
  expect(hashes.size).toBeGreaterThan(9_990);
});
