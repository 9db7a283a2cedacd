// In Bun and in Deno; the README of dist-groups shows these files.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { denoBinary } from "../../scripts/deno-binary.ts";

setDefaultTimeout(120_000);

const own = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

const RUNTIMES = [
  ["Bun", [process.execPath]],
  ["Deno", [denoBinary(), "run", "--allow-all", "--no-check", "--quiet"]],
] as const;

/** What an example prints, in one line: how lists are broken depends on where they are printed. */
function printed(command: readonly string[], example: string): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...command, own(`${example}.ts`)]);
  expect([exitCode, stderr.toString()]).toEqual([0, ""]);
  return stdout.toString().trim().replace(/\s+/g, " ");
}

test.each(["program", "main", "effect"])("the README of the package shows %s.ts as it is", (name) => {
  const readme = readFileSync(own("../../libs/dist-groups/README.md"), "utf8");
  expect(readme).toContain(`\`\`\`ts\n${readFileSync(own(`${name}.ts`), "utf8")}\`\`\``);
});

test.each(RUNTIMES)("the plain face in %s", (_, command) => {
  const said = /prints:\n\n```\n(.*?)\.\.\.\n```/s.exec(readFileSync(own("README.md"), "utf8"))?.[1] ?? "nothing";
  const begin = said.replace(/\s+/g, " ");
  expect(printed(command, "main").slice(0, begin.length)).toBe(begin);
});

test.each(RUNTIMES)("the Effect face in %s", (_, command) => {
  expect(printed(command, "effect")).toBe("[ 100, 100, 100, 100 ] missing: [ 2 ]");
});

test("a hang shows who is behind", () => {
  expect(printed([process.execPath], "hang")).toMatch(/^While it hangs: flight record.* 2 - nothing yet <- behind/);
});
