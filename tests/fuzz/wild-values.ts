// Values that no argument should be, and numbers at the edges of what arguments can be.
import type { RandomStream } from "../random.ts";

const WILD: readonly unknown[] = [
  undefined,
  null,
  true,
  "",
  "1",
  "f32",
  "__proto__",
  Symbol("wild"),
  7n,
  () => 1,
  {},
  [],
  [[]],
  Object.create(null),
  new Date(0),
  new Map(),
  new Float32Array(3),
  new ArrayBuffer(8),
  Promise.resolve(1),
  { length: 2 ** 32 },
  { length: -1, 0: 1 },
];

const NUMBERS: readonly number[] = [
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  -0,
  -1,
  0.5,
  1e-46,
  1e308,
  3.4e38,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32,
  2 ** 53,
  -(2 ** 31),
];

/** Any of them; one in two is a number. */
export function wildValue(random: RandomStream): unknown {
  const list = random.next() < 0.5 ? NUMBERS : WILD;
  return list[random.below(list.length)];
}
