import { expect, spyOn, test } from "bun:test";
import fs from "node:fs";
import { failureCode, SafetensorsFile } from "@lockstep/tensor";
import { readText } from "./json-file.ts";
import { modelFolder } from "./model-files.ts";

function failure(name: string, message: string, code?: string): Error {
  return Object.assign(new Error(message), { name }, code === undefined ? {} : { code });
}

test.each([
  [failure("Error", "", "ENOENT"), "none"],
  [failure("Error", "", "ENOTDIR"), "none"],
  [failure("Error", "", "EACCES"), "no permission (EACCES)"],
  [failure("Error", "", "EIO"), "EIO"],
  [
    failure("NotCapable", 'Requires read access to "x", run again with the --allow-read flag'),
    "no permission to read: in Deno run with --allow-read",
  ],
  [
    failure("NotCapable", 'Requires write access to "x", run again with the --allow-write flag'),
    "no permission to write: in Deno run with --allow-write",
  ],
])("a file that cannot be read is told with its reason: %s", (error, words) => {
  expect(failureCode(error)).toBe(words);
  const refusing = spyOn(fs, "statSync").mockImplementation(() => {
    throw error;
  });
  try {
    expect(() => readText("/here")).toThrow(`/here: expected a readable file, but found ${words}.`);
    expect(() => SafetensorsFile.open("/here")).toThrow(`/here: expected a readable file, but found ${words}.`);
  } finally {
    refusing.mockRestore();
  }
});

test("a file that may be there and may not be seen is not taken for none", () => {
  const refusing = spyOn(fs, "statSync").mockImplementation(() => {
    throw failure("NotCapable", 'Requires read access to "x", run again with the --allow-read flag');
  });
  try {
    expect(() => modelFolder("test", "/here").has("a.json")).toThrow("in Deno run with --allow-read");
  } finally {
    refusing.mockRestore();
  }
  expect(modelFolder("test", "/here").has("a.json")).toBe(false);
});
