// Programs of this repository tell what they take, and what is wrong with what they were given, in a line.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Glob } from "bun";

setDefaultTimeout(60_000);

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const files = ["{bench,scripts,tests}/**/*.ts", "libs/*/test/**/*.ts"]
  .flatMap((pattern) => [...new Glob(pattern).scanSync(root)])
  .filter((file) => !file.includes("node_modules") && !file.endsWith(".test.ts"))
  .sort();
const text = (file: string): string => readFileSync(join(root, file), "utf8");

/** Programs that read a command line, those of options.ts by the main.ts beside it. */
const programs = files
  .filter((file) => text(file).includes("readCommandLine(") && file !== "scripts/command-line.ts")
  .map((file) => file.replace(/options\.ts$/, "main.ts"));

async function run(file: string, args: readonly string[]) {
  const child = Bun.spawn([process.execPath, file, ...args], { cwd: root, stdout: "pipe", stderr: "pipe" });
  const [out, error] = await Promise.all([child.stdout, child.stderr].map((said) => new Response(said).text()));
  return { out, error, code: await child.exited };
}

test("all that read options do it by readCommandLine, which knows --help", () => {
  expect(programs.length).toBeGreaterThan(12);
  expect(files.filter((file) => text(file).includes("parseArgs("))).toEqual(["scripts/command-line.ts"]);
});

test.each(programs)("%s: --help tells what there is", async (file) => {
  const { out, error, code } = await run(file, ["--help"]);
  expect(error).toBe("");
  expect(out).toContain("\nusage: bun ");
  expect(code).toBe(0);
});

test.each(programs)("%s: an option that there is not is told in a line", async (file) => {
  const { out, error, code } = await run(file, ["--no-such-option"]);
  expect(error).toMatch(/^[^\n]+: Unknown option '--no-such-option'[^\n]*\n$/);
  expect(out).toBe("");
  expect(code).toBe(2);
});

test.each([
  [["--clients", "0"], "--clients must be a whole number from 1, but is 0"],
  [["--clients", "many"], "--clients must be a whole number from 1, but is many"],
  [["--memory"], "Option '--memory <value>' argument missing"],
  [["--runtime", "node"], "--runtime must be bun or deno, but is node"],
  [["500"], "'500' is no option"],
])("bench:serve %j is refused", async (args, line) => {
  const { error, code } = await run("bench/serve/main.ts", args);
  expect(error).toBe(`bench:serve: ${line}; --help tells what there is\n`);
  expect(code).toBe(2);
});
