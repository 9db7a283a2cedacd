import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ModelError } from "@lockstep/language-model";
import { firstDifference, readExpectations } from "./expectations.ts";

test("reads entries, and says which one is malformed", () => {
  const folder = mkdtempSync(join(tmpdir(), "lockstep-expect-"));
  const path = join(folder, "expect.json");
  const good = { prompt: "a", prompt_ids: [1, 2], greedy_ids: [3], text: "ignored" };
  const read = (content: unknown) => {
    writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
    return () => readExpectations(path, 10);
  };
  try {
    expect(read([good])()).toEqual([{ prompt: "a", promptIds: [1, 2], greedyIds: [3] }]);
    expect(read("{")).toThrow(ModelError);
    expect(read({})).toThrow("expected a list of entries");
    expect(read([])).toThrow("expected a list of entries");
    expect(read([good, { ...good, greedy_ids: "3" }])).toThrow("in entry 2");
    expect(read([{ ...good, prompt_ids: [] }])).toThrow("in entry 1");
    expect(read([{ ...good, prompt_ids: [-1] }])).toThrow("in entry 1");
    expect(read([{ ...good, prompt_ids: [10] }])).toThrow("ids from 0 to 9");
    rmSync(path);
    expect(() => readExpectations(path, 10)).toThrow("expected a readable file");
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("names the first difference", () => {
  expect(firstDifference("token", [1, 2], [1, 2])).toBeUndefined();
  expect(firstDifference("token", [1, 2], [1, 3])).toBe(": token 2 is 3, expected 2");
  expect(firstDifference("token", [1, 2], [1])).toBe(": token 2 is missing, expected 2");
  expect(firstDifference("token", [1], [1, 9])).toBe(": token 2 is 9, expected none");
});
