import { expect, test } from "bun:test";
import { naturalLog } from "./natural-log.ts";

test.each([1, 1.5, 2, 0.1, 4, 10000, 1e6, 327.68, 1e-5])("the natural logarithm of %d", (value) => {
  const exact = Math.log(value);
  expect(Math.abs(naturalLog(value) - exact)).toBeLessThanOrEqual(1e-15 * Math.max(1, Math.abs(exact)));
});
