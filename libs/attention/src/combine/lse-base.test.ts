import { expect, test } from "bun:test";
import { ArgumentError, SharedHeap, Tensor } from "@lockstep/tensor";
import { convertLse } from "./lse-base.ts";

const heap = SharedHeap.create(1 << 16);

test("bases convert there and back; infinities and NaN stay", () => {
  const natural = Tensor.from(
    heap,
    "f32",
    [5],
    [0, Math.log(8), Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, Number.NaN],
  );
  const base2 = convertLse(natural, "e", "2");
  expect(base2.at(1)).toBeCloseTo(3, 6);
  expect([...base2.toNumbers()].slice(2)).toEqual([Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, Number.NaN]);
  expect(convertLse(base2, "2", "e").at(1)).toBeCloseTo(Math.log(8), 6);
  expect([...convertLse(natural, "e", "e").toNumbers()]).toEqual([...natural.toNumbers()]);
  expect(convertLse(natural, "e", "2", natural)).toBe(natural);
  expect(natural.at(1)).toBeCloseTo(3, 6);
});

test("another dtype or base is refused", () => {
  expect(() => convertLse(Tensor.zeros(heap, "f16", [1]), "e", "2")).toThrow(ArgumentError);
  expect(() => convertLse(Tensor.zeros(heap, "f32", [1]), "10" as "2", "e")).toThrow("`from`");
});
