// `bun run build`: what is published of every package, in its `dist/`: plain ES modules file by file, declarations and
// source maps that lead to `src/`, by TypeScript's own compiler. Also LICENSE, which every tarball needs.
// `bun run build attention`: that one, and those below it.
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { withJavaScriptImports, withJavaScriptUrls } from "./javascript-urls.ts";
import { PUBLISHED, type PublishedPackage } from "./published.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");

/** Options that differ from the workspace's own. `paths` is empty: packages below are seen as strangers see them. */
const COMPILER_OPTIONS = {
  noEmit: false,
  target: "es2023",
  paths: {},
  rewriteRelativeImportExtensions: true,
  declaration: true,
  declarationMap: true,
  sourceMap: true,
  removeComments: false,
} as const;

/** Empties `dist/` and fills it. @throws Error when the compiler finds fault, or a worker's file is not there */
function build({ folder, testCode }: PublishedPackage): void {
  const from = join(root, folder);
  const dist = join(from, "dist");
  rmSync(dist, { recursive: true, force: true });
  const temporary = mkdtempSync(join(tmpdir(), "lockstep-build-"));
  try {
    const config = join(temporary, "tsconfig.json");
    const options = {
      ...COMPILER_OPTIONS,
      rootDir: join(from, "src"),
      outDir: dist,
      typeRoots: [join(root, "node_modules/@types"), join(root, "node_modules")],
    };
    const include = [join(from, "src")];
    const exclude = ["**/*.as.ts", ...testCode].map((pattern) => join(from, "src", pattern));
    const settings = { extends: join(root, "tsconfig.json"), compilerOptions: options, include, exclude };
    writeFileSync(config, JSON.stringify(settings));
    const compiler = join(root, "node_modules/typescript/bin/tsc");
    const { status } = spawnSync(process.execPath, [compiler, "-p", config], { stdio: ["ignore", 2, 2] });
    if (status !== 0) throw new Error(`${folder}: the compiler found fault; its messages are above`);
  } finally {
    rmSync(temporary, { recursive: true });
  }
  for (const name of readdirSync(dist, { recursive: true, encoding: "utf8" })) {
    const file = join(dist, name);
    if (name.endsWith(".d.ts")) writeFileSync(file, withJavaScriptImports(readFileSync(file, "utf8")));
    if (!name.endsWith(".js")) continue;
    const before = readFileSync(file, "utf8");
    const { code, files } = withJavaScriptUrls(before);
    for (const linked of files) {
      if (!existsSync(join(dirname(file), linked))) throw new Error(`${file}: ${linked} was not built`);
    }
    if (code !== before) writeFileSync(file, code);
  }
  copyFileSync(join(root, "LICENSE"), join(from, "LICENSE"));
}

const wanted = process.argv.slice(2);
const names = new Set(wanted.length === 0 ? PUBLISHED.map(({ name }) => name) : wanted);
for (const name of wanted) {
  const found = PUBLISHED.find((one) => one.name === name);
  if (found === undefined) {
    const known = PUBLISHED.map((one) => one.name).join(", ");
    console.error(`build: expected packages of ${known}, but found ${name}`);
    process.exit(2);
  }
  for (const below of found.below) names.add(below);
}
try {
  for (const one of PUBLISHED) {
    if (!names.has(one.name)) continue;
    build(one);
    console.error(`built ${one.folder}/dist`);
  }
} catch (error) {
  console.error(`build: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}
