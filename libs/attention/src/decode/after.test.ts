import { expect, test } from "bun:test";
import { after } from "./after.ts";
import { outcomeOf } from "../../../../tests/outcome-of.ts";

test("goes on there and then with what is there, and later with what is not", async () => {
  const seen: number[] = [];
  const note = (value: number): undefined => void seen.push(value);
  expect(after(1, note)).toBeUndefined();
  expect(seen).toEqual([1]);
  const later = after(Promise.resolve(2), note);
  expect(seen).toEqual([1]);
  await later;
  expect(seen).toEqual([1, 2]);
  await after(undefined, () => after(Promise.resolve(3), note));
  expect(seen).toEqual([1, 2, 3]);
});

test("passes errors on as they come, and goes on with nothing after one", async () => {
  const fail = (): never => {
    throw new RangeError("no");
  };
  expect(() => after(1, fail)).toThrow(RangeError);
  expect(await outcomeOf(after(Promise.resolve(1), fail))).toThrow(RangeError);
  let wentOn = false;
  const goOn = (): undefined => {
    wentOn = true;
  };
  expect(await outcomeOf(after(Promise.reject(new RangeError("no")), goOn))).toThrow(RangeError);
  await Promise.resolve();
  expect(wentOn).toBe(false);
});
