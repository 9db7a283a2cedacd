// Links of the project's Markdown lead to files and headings that are there, and its commands to scripts that are.
import { expect, test } from "bun:test";
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { markdownFiles } from "./snippets.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const { packageManager, scripts }: { packageManager: string; scripts: Record<string, string> } = JSON.parse(
  readFileSync(join(root, "package.json"), "utf8"),
);

/** Names that headings of a Markdown file are linked by. */
function anchorsOf(text: string): string[] {
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

/** Relative links of a text that lead nowhere. */
function brokenLinks(text: string, folder: string): string[] {
  const links = [...text.matchAll(/\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"/g)].map(
    ([, link, source]) => link ?? source ?? "",
  );
  return links.filter((link) => {
    if (/^[a-z]+:/.test(link)) return false;
    const [path = "", anchor] = link.split("#");
    const file = join(folder, path);
    if (path !== "" && !existsSync(file)) return true;
    if (anchor === undefined) return false;
    return !anchorsOf(path === "" || statSync(file).isDirectory() ? text : readFileSync(file, "utf8")).includes(anchor);
  });
}

/** Scripts of the package.json beside a Markdown file, such as an example's. */
function scriptsBeside(file: string): Record<string, string> {
  const manifest = join(root, dirname(file), "package.json");
  return existsSync(manifest) ? (JSON.parse(readFileSync(manifest, "utf8")).scripts ?? {}) : {};
}

/**
 * Commands of a text that the project has not: scripts of its package.json or of `more`, files that Bun is to run,
 * Bun's version.
 */
function unknownCommands(text: string, more: Record<string, string> = {}): string[] {
  const runs = [...text.matchAll(/\bbun(?:@[\d.]+)? run ([\w:./-]*\w)/g)].map(([, name = ""]) => name);
  const files = [
    ...text.matchAll(/\b(?:bun|deno run -A) ((?:apps|bench|examples|libs|scripts|tests)\/[\w./-]+\.ts)\b/g),
  ].map(([, file = ""]) => file);
  const versions = [...text.matchAll(/\bbun@[\d.]+\b/g)].map(([version]) => version);
  return [
    ...runs.filter((name) => !(name in scripts || name in more) && !existsSync(join(root, name))),
    ...files.filter((file) => !existsSync(join(root, file))),
    ...versions.filter((version) => version !== packageManager),
  ];
}

test.each(markdownFiles(root))("%s", (file) => {
  const text = readFileSync(join(root, file), "utf8");
  // What a program prints, or its code, has no links.
  const prose = text.replace(/^```.*?^```$/gms, "");
  expect(brokenLinks(prose, dirname(join(root, file)))).toEqual([]);
  expect(unknownCommands(text, scriptsBeside(file))).toEqual([]);
});

test("broken links and unknown commands are found", () => {
  const text =
    '# A b: c\n[a](nowhere.md) [b](#a-b-c) [c](#d) [d](https://x) [e](docs/memory.md#nothing) <img src="no.svg">';
  expect(brokenLinks(text, root)).toEqual(["nowhere.md", "#d", "docs/memory.md#nothing", "no.svg"]);
  expect(unknownCommands("`bun run nothing`, `bun run test`, `bun libs/no.ts`, npx -y bun@1.0.0 run demo")).toEqual([
    "nothing",
    "libs/no.ts",
    "bun@1.0.0",
  ]);
});
