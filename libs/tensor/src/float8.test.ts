import { expect, test } from "bun:test";
import { float8ToNumber, numberToFloat8 } from "./float8.ts";
import { SharedHeap } from "./shared-heap.ts";
import { Tensor } from "./tensor.ts";

test("every e4m3 pattern survives a round trip", () => {
  for (let bits = 0; bits < 256; bits++) expect(numberToFloat8(float8ToNumber(bits)) & 0x7f).toBe(bits & 0x7f);
  for (let bits = 0; bits < 127; bits++) expect(numberToFloat8(-float8ToNumber(bits))).toBe(bits | 0x80);
});

test("e4m3 rounds to the nearest of its numbers, ties to the even pattern", () => {
  for (let bits = 0; bits < 126; bits++) {
    const [low, high] = [float8ToNumber(bits), float8ToNumber(bits + 1)];
    const middle = (low + high) / 2;
    expect(numberToFloat8(middle)).toBe(bits % 2 === 0 ? bits : bits + 1);
    expect(numberToFloat8(middle * (1 - 2 ** -20))).toBe(bits);
    expect(numberToFloat8(middle * (1 + 2 ** -20))).toBe(bits + 1);
  }
});

test.each([
  [448, 0x7e],
  [464, 0x7e],
  [1e30, 0x7e],
  [Number.POSITIVE_INFINITY, 0x7f],
  [Number.NEGATIVE_INFINITY, 0xff],
  [Number.NaN, 0x7f],
  [-0, 0x80],
  [1, 0x38],
  [2 ** -9, 1],
  [2 ** -10, 0],
  [1e-40, 0],
  [2 ** -6, 8],
])("e4m3 of %p, saturating", (value, bits) => {
  expect(numberToFloat8(value)).toBe(bits);
});

test("8-bit tensors hold what was rounded", () => {
  const heap = SharedHeap.create(1 << 16);
  const floats = Tensor.from(heap, "f8e4m3", [5], [1.06, -3.3, 500, 0.001, Number.NaN]);
  expect([...floats.toNumbers()]).toEqual([1, -3.25, 448, 2 ** -9, Number.NaN]);
  expect(floats.byteLength).toBe(5);
  const integers = Tensor.from(heap, "i8", [3], [-128, 127, -1]);
  expect([...integers.toNumbers()]).toEqual([-128, 127, -1]);
  expect(integers.slice(0, 1, 3).at(1)).toBe(-1);
});
