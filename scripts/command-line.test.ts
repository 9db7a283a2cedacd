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
  const [out = "", error = ""] = await Promise.all(
    [child.stdout, child.stderr].map((said) => new Response(said).text()),
  );
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
  expect(error).toMatch(/^[^\n]+: Unknown option '--no-such-option'[^\n]*; --help tells what there is\n$/);
  expect(out).toBe("");
  expect(code).toBe(2);
});

test.each([
  [["--client", "3"], "Unknown option '--client': expected one such as --clients"],
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

test.each([
  ["bench/gpu-steps/main.ts", ["--ranks", "0"], "--ranks must be whole numbers from 1 to 64, between commas, but is 0"],
  ["bench/gpu-steps/main.ts", ["--gpus", "x"], /--gpus must be whole numbers from 1 to \d+, between commas, but is x/],
  [
    "bench/gpu-steps/main.ts",
    ["--results", "disk"],
    "--results must be heap, GPU or both, between commas, but is disk",
  ],
  ["apps/goldens/src/main.ts", ["no.safetensors"], /FILE must be an existing file, but is no\.safetensors/],
  ["apps/goldens/src/main.ts", [], "FILE must be one or more reference files, but is none"],
  ["apps/goldens/src/main.ts", ["x", "--backend", "cuda"], /--backend must be of .*, but is cuda/],
  ["apps/goldens/src/main.ts", ["x", "--backend", ","], '--backend must be a comma-separated list, but is ","'],
  ["apps/goldens/src/main.ts", ["x", "--world", "0"], "--world must be integers from 1 to 64, but is 0"],
  ["apps/goldens/src/main.ts", ["x", "--adapter", "big"], /--adapter must be one of .*, but is big/],
  ["apps/goldens/src/main.ts", ["--onl"], "Unknown option '--onl': expected one such as --only."],
  ["apps/goldens/src/main.ts", ["--worlds", "2"], "Unknown option '--worlds': expected one such as --world."],
] as const)("%s %j is refused in a line that names the program once", async (file, args, what) => {
  const { out, error, code } = await run(file, args);
  const name = file.startsWith("bench/") ? "bench:gpu-steps" : "goldens";
  expect(error).toMatch(/^[^\n]+\n$/);
  expect(error.split(`${name}: `)).toEqual(["", expect.stringMatching(what)]);
  expect(out).toBe("");
  expect(code).toBe(2);
});

test("no program gives its name to an error that it prints after its name", () => {
  const { scripts } = JSON.parse(text("package.json")) as { scripts: Record<string, string> };
  const sources = [...files, ...new Glob("apps/*/src/**/*.ts").scanSync(root)];
  const named = sources.flatMap((file) => {
    const operations = [...text(file).matchAll(/new ArgumentError\(\s*(?:"([^"]+)"|(NAME|name)\b)/g)];
    return operations.filter(([, name]) => name === undefined || name in scripts).map(([found]) => `${file}: ${found}`);
  });
  expect(named).toEqual([]);
});
