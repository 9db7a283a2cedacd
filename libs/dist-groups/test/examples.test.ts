// The examples of the README, which are examples/.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { denoBinary } from "../../../scripts/deno-binary.ts";

setDefaultTimeout(120_000);

const own = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

const RUNTIMES = [
  ["Bun", [process.execPath]],
  ["Deno", [denoBinary(), "run", "--allow-all", "--no-check", "--quiet"]],
] as const;

/** What an example prints, in one line: how lists are broken depends on where they are printed. */
function printed(command: readonly string[], example: string): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...command, own(`../examples/${example}.ts`)]);
  expect([exitCode, stderr.toString()]).toEqual([0, ""]);
  return stdout.toString().trim().replace(/\s+/g, " ");
}

test.each(["program", "main", "effect"])("the README shows examples/%s.ts as it is", (name) => {
  const readme = readFileSync(own("../README.md"), "utf8");
  expect(readme).toContain(`\`\`\`ts\n${readFileSync(own(`../examples/${name}.ts`), "utf8")}\`\`\``);
});

test.each(RUNTIMES)("the plain face in %s", (_, command) => {
  const begin =
    "[ 100, 100, 100, 100 ] [ [ 0, 1 ], [ 0, 1 ], [ 2, 3 ], [ 2, 3 ] ] " +
    'CollectiveTimeout: rank 2 did not come to barrier (sequence 1) of group "world" within 200 ms. ';
  expect(printed(command, "main").slice(0, begin.length)).toBe(begin);
});

test.each(RUNTIMES)("the Effect face in %s", (_, command) => {
  expect(printed(command, "effect")).toBe("[ 100, 100, 100, 100 ] missing: [ 2 ]");
});
