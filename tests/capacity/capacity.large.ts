// KV caches as large as what ranks are for: 12 GiB on 4 of them, and a million tokens of one layer.
import { expect, setDefaultTimeout, test } from "bun:test";
import { checkCapacity, kvBytes } from "./check-capacity.ts";

setDefaultTimeout(3_600_000);

const HEADS = { queryHeads: 32, kvHeads: 8, headDim: 128 } as const;

test("4 ranks hold 12 GiB of KV and attend over all of it as float64 does", async () => {
  const shape = { ...HEADS, layers: 3, tokens: 2 ** 20 };
  expect(kvBytes(shape)).toBe(12 * 2 ** 30);
  await checkCapacity(
    4,
    shape,
    Array.from({ length: HEADS.queryHeads }, (_, head) => head),
  );
});

test("1, 2, 3, 4 and 8 ranks attend over 300,000 tokens as float64 does", async () => {
  for (const size of [1, 2, 3, 4, 8]) {
    await checkCapacity(size, { ...HEADS, layers: 1, tokens: 300_000 }, [0, 13, 31]);
  }
});
