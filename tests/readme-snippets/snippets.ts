// The TypeScript in the project's Markdown, as files to check and run.
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { Glob } from "bun";
import { CONTEXTS, type Context } from "./contexts.ts";

/** A block of TypeScript. */
export interface Snippet {
  /** Its place: `README.md:63`. */
  readonly at: string;
  readonly code: string;
  /** As its first comment names it (`// program.ts: ...`), or the line before it (`` `program.ts`: ``). */
  readonly file: string | undefined;
  /** ` ```ts fragment host `, ` ```ts page `: where a piece of a program belongs, and is run. */
  readonly context: Context | undefined;
  /** What it prints, when a block follows whose introduction says so. */
  readonly output: string | undefined;
}

/** Every Markdown file of the project, from the root. The changes of old versions are as they were. */
export function markdownFiles(root: string): string[] {
  return ["*.md", "{apps,docs,examples,libs}/**/*.md"]
    .flatMap((pattern) => [...new Glob(pattern).scanSync(root)])
    .filter((file) => !/node_modules|(^|\/)(build|dist)\//.test(file) && basename(file) !== "CHANGELOG.md")
    .sort();
}

/** A fenced block, the line before it that says something, and where it begins. */
interface Block {
  readonly info: string;
  readonly code: string;
  readonly before: string;
  readonly line: number;
}

function blocksOf(text: string): Block[] {
  return [...text.matchAll(/^```([^\n]*)\n(.*?)^```$/gms)].map(({ 1: info = "", 2: code = "", index }) => {
    const lines = text.slice(0, index).split("\n");
    const before = lines.filter((line) => line.trim() !== "").at(-1) ?? "";
    return { info: info.trim(), code, before: before.trim(), line: lines.length };
  });
}

/** The TypeScript of a Markdown file. @throws Error for a block whose info string says something else than is known */
export function snippetsOf(root: string, file: string): Snippet[] {
  const blocks = blocksOf(readFileSync(join(root, file), "utf8"));
  return blocks.flatMap(({ info, code, before, line }, index) => {
    if (!/^(ts|typescript)\b/.test(info)) return [];
    const [, , named] =
      /^ts( fragment (?=host$|rank$)| (?=worker$|bundled$|page$))?(\w+)?$/.exec(info) ?? unknownInfo(file, line, info);
    const context = CONTEXTS.find((one) => one === named);
    const next = blocks[index + 1];
    const prints = next?.info === "" && /\bprints:$/.test(next.before) ? next.code : undefined;
    const [, fileName] = /^\/\/ ([\w./-]+\.ts)\b/.exec(code) ?? /^`([\w./-]+\.ts)`[^`]*:$/.exec(before) ?? [];
    return [{ at: `${file}:${line}`, code, file: fileName, context, output: prints }];
  });
}

/** The plain JavaScript of a Markdown file, each with its place. */
export function scriptsOf(root: string, file: string): { readonly at: string; readonly code: string }[] {
  return blocksOf(readFileSync(join(root, file), "utf8"))
    .filter(({ info }) => info === "js")
    .map(({ code, line }) => ({ at: `${file}:${line}`, code }));
}

function unknownInfo(file: string, line: number, info: string): never {
  throw new Error(
    `${file}:${line}: expected \`ts\`, \`ts fragment host\`, \`ts fragment rank\`, \`ts worker\`, \`ts bundled\` or ` +
      `\`ts page\`, but found \`${info}\``,
  );
}

/** Text of every file in the folders of examples, which have tests of their own. */
export function exampleFiles(root: string): ReadonlySet<string> {
  const files = ["examples/**/*.ts", "libs/*/examples/**/*.ts"]
    .flatMap((pattern) => [...new Glob(pattern).scanSync(root)])
    .filter((file) => !/node_modules|\/(build|dist)\//.test(file));
  return new Set(files.map((file) => readFileSync(join(root, file), "utf8")));
}

/**
 * What a program is to print, or to make a page's title, a line for each `console.log(...)` and `document.title = ...`
 * that says so: `// 5 1.898...: why`. What stands behind ": " is for readers.
 */
export function expectedLines(code: string): string[] {
  return [...code.matchAll(/^\s*(?:console\.log\(.*\)|document\.title = .*);? \/\/ (.*)$/gm)].map(([, said = ""]) =>
    said.replace(/: .*$/, ""),
  );
}

/** Whether a program printed what was said: `...` stands for anything, and any time may stand for a time. */
export function agrees(printed: string, said: string): boolean {
  const pattern = said
    .trim()
    .replace(/[.*+?^${}()|[\]\\]/g, "\\$&")
    .replace(/\\\.\\\.\\\./g, ".*")
    .replace(/\d+(?= ms\b)/g, "\\d+");
  return new RegExp(`^${pattern}$`, "s").test(printed.trim());
}
