// llms.txt has the form of llmstxt.org, and names only what is there.
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { entryPoints } from "../scripts/api-reference/entry-points.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const text = readFileSync(join(root, "llms.txt"), "utf8");

test("it has a title, a summary, and sections of lists", () => {
  expect(text).toMatch(/^# \S.*\n\n> \S/);
  const sections = text.split(/^## /m).slice(1);
  expect(sections.length).toBeGreaterThan(2);
  for (const section of sections) expect(section).toMatch(/^[^\n]+\n\n(- .*\n)+\n?$/);
});

test("its links lead to files", () => {
  const links = [...text.matchAll(/\]\(([^)]+)\)/g)].map(([, link = ""]) => link);
  expect(links.length).toBeGreaterThan(15);
  expect(links.filter((link) => !existsSync(join(root, link)))).toEqual([]);
});

/** Names that a module exports, by the text of its source. */
function exportedNames(source: string): string[] {
  const code = readFileSync(join(root, source), "utf8").replace(/\/\*.*?\*\//gs, "");
  const lists = [...code.matchAll(/\bexport (?:type )?\{([^}]*)\}/g)].flatMap(([, list = ""]) => list.split(","));
  const declared = [...code.matchAll(/^export (?:async )?(?:function|const|class|interface|type) (\w+)/gm)];
  return [...lists.map((name) => name.trim().replace(/^type /, "")), ...declared.map(([, name = ""]) => name)];
}

test("the entry points export what it names", () => {
  const sources = new Map(entryPoints(root).map(({ specifier, source }) => [specifier, source]));
  const entries = [...text.matchAll(/^- `(@lockstep\/[\w/-]+)`: (.*)$/gm)];
  expect(entries.length).toBeGreaterThan(6);
  for (const [, specifier = "", list = ""] of entries) {
    const source = sources.get(specifier);
    expect([specifier, source === undefined]).toEqual([specifier, false]);
    const names = [...list.matchAll(/`(\w+)`/g)].map(([, name = ""]) => name);
    expect(names.length).toBeGreaterThan(0);
    const exported = exportedNames(source ?? "");
    expect([specifier, names.filter((name) => !exported.includes(name))]).toEqual([specifier, []]);
  }
});
