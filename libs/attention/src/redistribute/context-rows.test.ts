// A context that comes from elsewhere: what it says of itself is looked at before any of it is taken.
import { expect, test } from "bun:test";
import { ArgumentError } from "@lockstep/tensor";
import type { ContextImage } from "../kv/context-image.ts";
import { checkContextImage } from "./context-rows.ts";

/** Two sequences over blocks of 4 positions; the first begins with two known blocks, and the second shares one. */
const good: ContextImage = {
  nextSequence: 9,
  sequences: [
    { id: 2, length: 10, blocks: [0, 1, 3], kept: 2 },
    { id: 5, length: 5, blocks: [0, 2], kept: 1 },
  ],
  known: [
    { block: 0, parent: undefined, tokens: [1, 2, 3, 4] },
    { block: 1, parent: 0, tokens: [5, 6, 7, 8] },
  ],
};

const [first, second] = good.sequences;
const [root, next] = good.known;
if (first === undefined || second === undefined || root === undefined || next === undefined) throw new Error("four");

/** Images that are wrong in one thing, by the argument that an error names. */
const WRONG: readonly (readonly [name: string, image: ContextImage])[] = [
  ["image.nextSequence", { ...good, nextSequence: -1 }],
  ["image.sequences[1].id", { ...good, nextSequence: 5 }],
  ["image.sequences[1].id", { ...good, sequences: [first, { ...second, id: 2 }] }],
  ["image.sequences[0].blocks", { ...good, sequences: [{ ...first, length: 13 }, second] }],
  ["image.sequences[0].blocks", { ...good, sequences: [{ ...first, length: 0.5 }, second] }],
  ["image.sequences[0].kept", { ...good, sequences: [{ ...first, kept: 3 }, second] }],
  ["image.sequences[0].kept", { ...good, sequences: [{ ...first, blocks: [1, 0, 3] }, second] }],
  ["image.sequences[1].kept", { ...good, sequences: [first, { ...second, blocks: [2, 0] }] }],
  ["image.known[1].block", { ...good, known: [root, { ...next, block: 0 }] }],
  ["image.known[0].parent", { ...good, known: [next, root] }],
  ["image.known[1].tokens", { ...good, known: [root, { ...next, tokens: [5, 6, 7] }] }],
  ["image.known[1].tokens", { ...good, known: [root, { ...next, tokens: [5, 6, 7, -8] }] }],
  ["image", { ...good, sequences: [{ ...first, blocks: [0, 1, 7] }, second] }],
];

test("an image that caches can have is taken", () => {
  checkContextImage("test", good, 4, 4);
  checkContextImage("test", { nextSequence: 0, sequences: [], known: [] }, 4, 1);
});

test.each(WRONG)("a wrong %s is refused by name", (name, image) => {
  const check = (): void => checkContextImage("test", image, 4, 4);
  expect(check).toThrow(ArgumentError);
  expect(check).toThrow(`\`${name}\` must be`);
});

test("more blocks than there are, and what is no image, are refused", () => {
  expect(() => checkContextImage("test", good, 4, 3)).toThrow("at most 3 blocks");
  expect(() => checkContextImage("test", good, 5, 4)).toThrow(ArgumentError);
  for (const image of [undefined, null, 3, {}]) {
    expect(() => checkContextImage("test", JSON.parse(JSON.stringify(image ?? null)), 4, 4)).toThrow(ArgumentError);
  }
});
