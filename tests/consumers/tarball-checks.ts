// What is in the tarballs: everything that a package names, nothing that only the workspace has, and no fault that the
// linters of packages know.
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import type { Check } from "./checks.ts";
import type { Lab } from "./lab.ts";
import { lint } from "./lint-tarball.ts";
import { type Packed, type Packer, ROOT } from "./pack.ts";
import { runCommand } from "./run-command.ts";

interface Manifest {
  readonly private?: boolean;
  readonly files?: readonly string[];
  readonly exports: Readonly<Record<string, string | Readonly<Record<string, string>>>>;
  readonly bin?: Readonly<Record<string, string>>;
}

const NEEDED = ["package.json", "README.md", "LICENSE", "dist/", "src/"];
const TEST_CODE = /\.(test|large|worker)\.|(^|\/)(test|testing|examples)\/|\/ops\/[^/]+\/cases\.|node_modules/;

export function tarballChecks(lab: Lab, packed: readonly Packed[]): Check[] {
  return [
    ...packed.map((one) => ({ name: `tarball of ${one.name}: contents`, run: () => checkContents(lab, one) })),
    ...packed.map((one) => ({ name: `tarball of ${one.name}: publint, attw`, run: () => lint(one.tarballs.npm) })),
    { name: "deno publish --dry-run of every package", run: () => dryRun(lab, packed) },
  ];
}

async function checkContents(lab: Lab, one: Packed): Promise<string> {
  const byNpm = await unpack(lab, one, "npm");
  const byBun = await unpack(lab, one, "bun");
  const files = filesOf(byNpm);
  const problems = differences(files, filesOf(byBun));
  const has = (path: string): boolean => files.includes(normalize(path));
  for (const needed of NEEDED) {
    const isThere = needed.endsWith("/") ? files.some((file) => file.startsWith(needed)) : has(needed);
    if (!isThere) problems.push(`${needed} is missing`);
  }
  problems.push(...files.filter((file) => TEST_CODE.test(file)).map((file) => `${file} is for tests`));
  for (const folder of [byNpm, byBun]) {
    const text = readFileSync(join(folder, "package.json"), "utf8");
    if (text.includes("workspace:")) problems.push(`${folder}/package.json has versions of the workspace`);
    const manifest: Manifest = JSON.parse(text);
    if (manifest.private === true) problems.push(`${folder}/package.json is private`);
    const named = [...Object.values(manifest.exports), ...Object.values(manifest.bin ?? {})];
    for (const target of named.flatMap((to) => (typeof to === "string" ? [to] : Object.values(to)))) {
      if (!has(target)) problems.push(`package.json names ${target}, which is not there`);
    }
  }
  for (const file of files.filter((name) => /^dist\/.*\.js$/.test(name))) {
    if (!has(file.replace(/\.js$/, ".d.ts"))) problems.push(`${file} has no declarations`);
    problems.push(...mapProblems(byNpm, file, has), ...mapProblems(byNpm, file.replace(/\.js$/, ".d.ts"), has));
  }
  if (problems.length > 0) throw new Error(problems.join("\n"));
  return `${files.length} files, ${Math.ceil(statSync(one.tarballs.npm).size / 1024)} KiB`;
}

async function unpack(lab: Lab, { name, tarballs }: Packed, packer: Packer): Promise<string> {
  const folder = join(lab.folder, `unpacked-by-${packer}`, name);
  mkdirSync(folder, { recursive: true });
  await runCommand(["tar", "-xzf", tarballs[packer]], { cwd: folder, env: lab.env });
  return join(folder, "package");
}

function filesOf(folder: string): string[] {
  const entries = readdirSync(folder, { recursive: true, encoding: "utf8" });
  return entries.filter((name) => statSync(join(folder, name)).isFile()).sort();
}

function differences(byNpm: readonly string[], byBun: readonly string[]): string[] {
  return [
    ...byNpm.filter((file) => !byBun.includes(file)).map((file) => `${file} is packed by npm alone`),
    ...byBun.filter((file) => !byNpm.includes(file)).map((file) => `${file} is packed by Bun alone`),
  ];
}

/** What is wrong with the source map of a file. */
function mapProblems(folder: string, file: string, has: (path: string) => boolean): string[] {
  const map = `${file}.map`;
  if (!existsSync(join(folder, map))) return [`${file} has no source map`];
  const { sources }: { sources: readonly string[] } = JSON.parse(readFileSync(join(folder, map), "utf8"));
  const from = sources.map((source) => normalize(join(dirname(map), source)));
  return from.filter((source) => !has(source)).map((source) => `${map} leads to ${source}, which is not there`);
}

/** As JSR does before it takes a package: types too, as Deno knows them, and those that need a compiler to be told. */
async function dryRun(lab: Lab, packed: readonly Packed[]): Promise<void> {
  const command = ["deno", "publish", "--dry-run", "--allow-dirty"] as const;
  const printed = await runCommand([...command], { cwd: ROOT, env: lab.env, withErrors: true });
  const missing = packed.filter(({ name }) => !printed.includes(`Simulating publish of @lockstep/${name}@`));
  if (missing.length > 0) throw new Error(`not published: ${missing.map(({ name }) => name).join(", ")}\n${printed}`);
}
