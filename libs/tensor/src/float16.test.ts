import { expect, test } from "bun:test";
import { bfloat16ToNumber, float16ToNumber, numberToBfloat16, numberToFloat16 } from "./float16.ts";

test("every f16 pattern survives a round trip", () => {
  for (let bits = 0; bits < 65536; bits++) {
    const value = float16ToNumber(bits);
    if (Number.isNaN(value)) expect(numberToFloat16(value) & 0x7e00).toBe(0x7e00);
    else if (numberToFloat16(value) !== bits) throw new Error(`f16 pattern ${bits} became ${numberToFloat16(value)}`);
  }
});

test("every bf16 pattern survives a round trip", () => {
  for (let bits = 0; bits < 65536; bits++) {
    const value = bfloat16ToNumber(bits);
    if (Number.isNaN(value)) expect(numberToBfloat16(value) & 0x7fc0).toBe(0x7fc0);
    else if (numberToBfloat16(value) !== bits)
      throw new Error(`bf16 pattern ${bits} became ${numberToBfloat16(value)}`);
  }
});

test("f16 rounds to nearest, ties to even, as Float16Array does", () => {
  const half = new Float16Array(1);
  const bits = new Uint16Array(half.buffer);
  let seed = 12345;
  for (let index = 0; index < 200_000; index++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const value = Math.fround((seed / 2 ** 31 - 1) * 2 ** ((seed % 48) - 30));
    half[0] = value;
    if (numberToFloat16(value) !== bits[0]) {
      throw new Error(`${value}: ${numberToFloat16(value)} instead of ${bits[0]}`);
    }
  }
});

test.each([
  [65504, 0x7bff],
  [65519.99, 0x7bff],
  [65520, 0x7c00],
  [Number.NEGATIVE_INFINITY, 0xfc00],
  [-0, 0x8000],
  [2 ** -24, 1],
  [2 ** -25, 0],
  [2 ** -25 * 1.001, 1],
  [1.5 * 2 ** -24, 2],
  [2.5 * 2 ** -24, 2],
])("f16 of %p", (value, bits) => {
  expect(numberToFloat16(value)).toBe(bits);
});

test.each([
  [1 + 2 ** -8, 0x3f80],
  [1 + 3 * 2 ** -8, 0x3f82],
  [3.4e38, 0x7f80],
  [-0, 0x8000],
])("bf16 of %p", (value, bits) => {
  expect(numberToBfloat16(value)).toBe(bits);
});
