import { expect, test } from "bun:test";
import { parseArgs } from "node:util";
import { describeOptionsError } from "./describe-options-error.ts";

const string = { type: "string" } as const;
const options = { world: string, "max-tokens": string, "max-context": string, "software-vulkan": string, gpus: string };

/** What is said of a command line that parseArgs refuses. */
function said(...args: string[]): string {
  try {
    parseArgs({ args, options, allowPositionals: false });
  } catch (error) {
    return describeOptionsError(error, options);
  }
  throw new Error(`expected ${args} to be refused`);
}

test.each([
  ["--wold", "--world"],
  ["--worlds=3", "--world"],
  ["--max-token", "--max-tokens"],
  ["--tokens", "--max-tokens"],
  ["--vulkan", "--software-vulkan"],
  ["--gpu", "--gpus"],
  ["--max", "--max-tokens, --max-context"],
  ["-g", "--gpus"],
])("%s: expected one such as %s", (arg, nearest) => {
  expect(said(arg)).toBe(`Unknown option '${arg.split("=")[0]}': expected one such as ${nearest}`);
});

test("nothing like it: still at most three of what there is, in one line", () => {
  for (const arg of [`--${"q".repeat(5000)}`, "--q", "--\n. '"]) {
    const [first, named = ""] = said(arg).split(": expected one such as ");
    expect(first).toMatch(/^Unknown option/);
    expect(named.split(", ").length).toBeLessThanOrEqual(3);
  }
});

test("what else is wrong is said as it was, without what follows the first sentence", () => {
  expect(said("--world")).toBe("Option '--world <value>' argument missing");
  expect(said("text")).toMatch(/^Unexpected argument 'text'/);
  expect(said("text")).not.toContain("expected one such as");
  expect(describeOptionsError("no words. at all", options)).toBe("no words");
  expect(describeOptionsError(new Error("Unknown option '--x'"), {})).toBe("Unknown option '--x'");
});
