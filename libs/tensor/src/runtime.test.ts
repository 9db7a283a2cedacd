import { expect, test } from "bun:test";
import { builtinModule, platformName, RUNTIME } from "./runtime.ts";

test("Bun is told, with its modules and Node's", () => {
  expect(RUNTIME).toBe("bun");
  expect(platformName()).toBe(process.platform);
  expect(builtinModule<typeof import("node:fs")>("node:fs")?.existsSync(import.meta.path)).toBe(true);
  expect(builtinModule<typeof import("bun:ffi")>("bun:ffi")?.suffix).toBeString();
});

test("a module that is not there is undefined", () => {
  expect(builtinModule("node:nonsense")).toBeUndefined();
});
