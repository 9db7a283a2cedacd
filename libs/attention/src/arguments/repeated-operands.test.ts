import { expect, test } from "bun:test";
import { ArgumentError, SharedHeap } from "@lockstep/tensor";
import { RepeatedOperands } from "./repeated-operands.ts";

/** Something prepared that knows whether it is in use. */
function preparedOps() {
  const live = new Set<number>();
  let made = 0;
  const prepare = () => {
    const id = made++;
    live.add(id);
    return { id, free: () => void live.delete(id) };
  };
  return { live, prepare };
}

test("prepares operands that come again, once, each layer's own, and frees them", () => {
  const { live, prepare } = preparedOps();
  const known = new RepeatedOperands<ReturnType<typeof prepare>>();
  const [a, b, c] = [{}, {}, {}];
  expect(known.find(0, a, b, undefined, prepare)).toBeUndefined();
  const first = known.find(0, a, b, undefined, prepare);
  expect(first?.id).toBe(0);
  expect(known.find(0, a, b, undefined, prepare)).toBe(first);
  // Another layer, and other operands in any place.
  for (const [layer, ...operands] of [
    [1, a, b, undefined],
    [0, c, b, undefined],
    [0, a, c, undefined],
    [0, a, b, c],
  ] as const) {
    expect(known.find(layer, operands[0], operands[1], operands[2], prepare)).toBeUndefined();
  }
  expect(live.size).toBe(1);
  known.free();
  expect(live.size).toBe(0);
  expect(known.find(0, a, b, undefined, prepare)).toBeUndefined();
});

test("forgets the oldest operands and frees what was prepared for them", () => {
  const { live, prepare } = preparedOps();
  const known = new RepeatedOperands<ReturnType<typeof prepare>>();
  for (let step = 0; step < 1000; step++) {
    const fresh = {};
    known.find(7, fresh, fresh, fresh, prepare);
    known.find(7, fresh, fresh, fresh, prepare);
  }
  expect(live.size).toBeLessThanOrEqual(8);
  known.free();
  expect(live.size).toBe(0);
});

test("does without what finds no memory, or cannot be prepared, and passes other errors on", () => {
  const known = new RepeatedOperands<{ free(): void }>();
  const operand = {};
  let calls = 0;
  const heap = SharedHeap.create(1 << 16);
  const exhausted = () => {
    calls++;
    heap.allocate(1 << 20);
    return undefined;
  };
  for (let time = 0; time < 3; time++) expect(known.find(0, operand, 1, 1, exhausted)).toBeUndefined();
  for (let time = 0; time < 3; time++) expect(known.find(0, operand, 2, 2, () => undefined)).toBeUndefined();
  expect(calls).toBe(1);
  const refuse = () => {
    throw new ArgumentError("op", "x", "right", "wrong");
  };
  known.find(0, operand, 3, 3, refuse);
  for (let time = 0; time < 2; time++) expect(() => known.find(0, operand, 3, 3, refuse)).toThrow(ArgumentError);
});
