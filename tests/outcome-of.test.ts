import { expect, test } from "bun:test";
import { outcomeOf, reasonOf } from "./outcome-of.ts";

test("a rejected promise throws its reason, one that is fulfilled returns its value", async () => {
  const reason = new RangeError("no");
  expect(await outcomeOf(Promise.reject(reason))).toThrow(RangeError);
  expect(await outcomeOf(Promise.resolve("no"))).not.toThrow();
  expect((await outcomeOf(Promise.resolve(3)))()).toBe(3);
});

test("a reason is what a promise was rejected with, and none is an error", async () => {
  expect(await reasonOf(Promise.reject("no"))).toBe("no");
  expect(await outcomeOf(reasonOf(Promise.resolve({ yes: 1 })))).toThrow(/came to.*yes/s);
});
