import { describe, expect, test } from "bun:test";
import { ArgumentError } from "@lockstep/tensor";
import * as fc from "fast-check";
import { OptionsDisagree } from "../errors/errors.ts";
import { type AgreedFields, type AgreedValue, agreedText, throwUnlessAgreed } from "./agreed-options.ts";

function disagreementOf(...fields: readonly AgreedFields[]): OptionsDisagree | undefined {
  const ranks = fields.map((_, place) => 10 + place);
  try {
    const texts = fields.map((each) => agreedText("open", each));
    throwUnlessAgreed("dcp", ranks, texts);
    return undefined;
  } catch (error) {
    if (error instanceof OptionsDisagree) return error;
    throw error;
  }
}

describe("what is the same, and what is not", () => {
  test.each<[AgreedValue, AgreedValue]>([
    [0, -0],
    [1, "1"],
    [1, 1n],
    [1, true],
    [null, "null"],
    [null, undefined],
    [Number.NaN, "NaN"],
    [Number.NaN, Number.POSITIVE_INFINITY],
    [
      [1, 2],
      [1, [2]],
    ],
    [["a, b"], ["a", "b"]],
    ["", undefined],
    [0.1, 0.1 + 2 ** -56],
    ["\ud800", "\udc00"],
  ])("%p is not %p", (a, b) => {
    const error = disagreementOf({ option: a }, { option: b }, { option: a });
    expect(error?.option).toBe("option");
    expect(error?.sides.map(({ ranks }) => ranks)).toEqual([[10, 12], [11]]);
    expect(error?.sides[0]?.value).not.toBe(error?.sides[1]?.value);
  });

  test("the order of the fields, NaN, and a field that is undefined or absent make no difference", () => {
    const { NaN: nan } = Number;
    expect(disagreementOf({ a: 1, b: [nan] }, { b: [nan], a: 1 }, { a: 1, b: [nan], c: undefined })).toBeUndefined();
  });

  test("names that an object has by itself are options like others", () => {
    const named = JSON.parse('{ "__proto__": 1, "constructor": 2 }') as AgreedFields;
    expect(disagreementOf(named, {})?.disagreements.map(({ option }) => option)).toEqual(["__proto__", "constructor"]);
  });
});

test("property: options disagree exactly when a value differs, and every value is told", () => {
  const value = fc.oneof(
    fc.double(),
    fc.string(),
    fc.boolean(),
    fc.bigInt(),
    fc.constant(null),
    fc.array(fc.integer(), { maxLength: 4 }),
  );
  const fields = fc.dictionary(fc.constantFrom("a", "b", "c"), value, { maxKeys: 3 });
  fc.assert(
    fc.property(fc.array(fields, { minLength: 1, maxLength: 4 }), (all) => {
      const error = disagreementOf(...all);
      const differing = ["a", "b", "c"].filter((key) => all.some((each) => !Object.is(each[key], all[0]?.[key])));
      const differ = differing.filter((key) => {
        const [first, ...others] = all.map((each) => each[key]);
        return !others.every((other) =>
          Array.isArray(other) ? Bun.deepEquals(other, first) : Object.is(other, first),
        );
      });
      expect(error?.disagreements.map(({ option }) => option) ?? []).toEqual(differ);
      for (const { sides } of error?.disagreements ?? []) {
        expect(sides.flatMap(({ ranks }) => ranks).toSorted()).toEqual(all.map((_, place) => 10 + place));
      }
    }),
    { seed: 10, numRuns: 300 },
  );
});

test("a long value is printed from where it differs", () => {
  const long = "x".repeat(2000);
  const error = disagreementOf({ table: `${long}1` }, { table: `${long}2` });
  for (const [place, side] of (error?.sides ?? []).entries()) {
    expect(side.value).toMatch(place === 0 ? /x1"$/ : /x2"$/);
    expect(side.value.length).toBeLessThan(130);
  }
});

test.each<[string, unknown, unknown]>([
  ["what", "", {}],
  ["what", 5, {}],
  ["fields", "open", null],
  ["fields", "open", [1]],
  ["fields.a", "open", { a: {} }],
  ["fields.a", "open", { a: () => 1 }],
  ["fields.a", "open", { a: Symbol("s") }],
  ["fields.a", "open", { a: [[[[[[[[[[1]]]]]]]]]] }],
  ["fields", "open", { a: "x".repeat(20_000) }],
  ["fields", "open", { a: "é".repeat(9_000) }],
])("a bad %s is refused", (argument, what, fields) => {
  let error: unknown;
  try {
    agreedText(what as string, fields as AgreedFields);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(ArgumentError);
  expect(error).toHaveProperty("argument", argument);
});
