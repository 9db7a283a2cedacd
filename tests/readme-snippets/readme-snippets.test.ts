// Every block of TypeScript in the project's Markdown is checked by one run of the compiler, and run. A block that is a
// file of examples/ is that file, whose own test runs it.
import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { filesOf } from "./contexts.ts";
import { agrees, exampleFiles, expectedLines, markdownFiles, type Snippet, scriptsOf, snippetsOf } from "./snippets.ts";

setDefaultTimeout(120_000);

const root = fileURLToPath(new URL("../..", import.meta.url));
/** Within the workspace, so that imports lead to its packages, and ignored. */
const build = join(root, "build/readme-snippets");
const examples = exampleFiles(root);
const demo = join(root, "apps/demo");

interface Program extends Snippet {
  readonly path: string;
}

/** A folder for each Markdown file; a name that comes again begins another. */
function programsOf(markdown: string): Program[] {
  const names = new Set<string>();
  let part = 0;
  return snippetsOf(root, markdown)
    .filter(({ code }) => !examples.has(code))
    .map((snippet, index) => {
      const name = snippet.file ?? `snippet-${index}.ts`;
      if (names.has(name)) {
        names.clear();
        part++;
      }
      names.add(name);
      // Pieces without a name of their own have the files that run them to themselves.
      const isPiece = snippet.context === "host" || snippet.context === "rank";
      const folder = join(build, markdown.replaceAll("/", "-"), `${part}`, isPiece ? `piece-${index}` : "");
      return { ...snippet, path: join(folder, name) };
    });
}

const programs = markdownFiles(root).flatMap(programsOf);
const isModule = ({ code }: Snippet): boolean => /^export /m.test(code);
const pieces = programs.flatMap(({ context, ...program }) => (context === undefined ? [] : { ...program, context }));
const whole = programs.filter(({ context }) => context === undefined);
/** Programs of ranks that no other block opens a world of. */
const unopened = whole.filter(
  (program) =>
    /^export (async )?function setup\b/m.test(program.code) &&
    !whole.some((other) => dirname(other.path) === dirname(program.path) && other.code.includes("openWorld")),
);

beforeAll(() => {
  rmSync(build, { recursive: true, force: true });
  const write = (path: string, code: string): void => {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, `${code}\nexport {};\n`);
  };
  for (const { path, code } of whole) {
    write(path, code);
    // The demo's model lies where it does for whoever runs a program at the root.
    if (code.includes("apps/demo/model")) linkModel(dirname(path));
  }
  for (const { path, code, context } of pieces) {
    for (const { name, text } of filesOf(context, basename(path), code, demo)) write(join(dirname(path), name), text);
  }
  const compilerOptions = { noUnusedLocals: false, noUnusedParameters: false };
  writeFileSync(
    join(build, "tsconfig.json"),
    JSON.stringify({ extends: "../../tsconfig.json", compilerOptions, include: ["."], exclude: [] }),
  );
});

function linkModel(folder: string): void {
  const apps = join(folder, "apps/demo");
  mkdirSync(apps, { recursive: true });
  if (!existsSync(join(apps, "model"))) symlinkSync(join(demo, "model"), join(apps, "model"));
}

async function output(command: readonly string[], cwd: string): Promise<string> {
  const child = Bun.spawn([...command], { cwd, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const timer = setTimeout(() => child.kill(), 60_000);
  const [stdout, stderr, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  clearTimeout(timer);
  if (status !== 0) throw new Error(`${command.join(" ")} ended with status ${status}:\n${stdout}${stderr}`);
  return stdout;
}

test("there are snippets in every package's README", () => {
  for (const name of ["tensor", "kernels", "dist-groups", "attention", "shared-gpu", "language-model"]) {
    expect([name, snippetsOf(root, `libs/${name}/README.md`).length > 0]).toEqual([name, true]);
  }
});

test("all of them have the right types", async () => {
  await output([process.execPath, join(root, "node_modules/typescript/bin/tsc"), "--noEmit", "-p", "."], build);
});

test.each(whole.filter((program) => !isModule(program)).map((program) => [program.at, program] as const))(
  "%s prints what it says",
  async (_, { path, code, output: said = expectedLines(code).join("\n") }) => {
    const printed = await output([process.execPath, path], dirname(path));
    // How lists are broken into lines depends on where they are printed.
    if (!agrees(printed, said)) expect(printed).toBe(said);
  },
);

test.each(unopened.map((program) => [program.at, program.path] as const))("%s opens as a world", async (_, path) => {
  const main = path.replace(/\.ts$/, "-main.ts");
  const options = `{ size: 2, program: ${JSON.stringify(`file://${path}`)} }`;
  writeFileSync(
    main,
    `import { openWorld } from "@lockstep/dist-groups";\nawait using _ = await openWorld(${options});\n`,
  );
  expect(await output([process.execPath, main], dirname(main))).toBe("");
});

test.each(pieces.map((piece) => [piece.at, piece] as const))("%s runs where it belongs", async (_, piece) => {
  const { path, code, context } = piece;
  const folder = dirname(path);
  let file = join(folder, `run-${basename(path)}`);
  if (context === "bundled") {
    const worker = /new URL\("\.\/([\w-]+)\.js"/.exec(code)?.[1] ?? "";
    const entries = [path, join(folder, `${worker}.ts`)];
    await output([process.execPath, "build", ...entries, "--target=bun", "--outdir", join(folder, "built")], folder);
    file = join(folder, "built", basename(path).replace(/ts$/, "js"));
  }
  const printed = await output([process.execPath, file], folder);
  const said = expectedLines(code).join("\n");
  if (said !== "" && !agrees(printed, said)) expect(printed).toBe(said);
  if (context === "page") expect(printed.trim()).not.toBe("");
});

const scripts = markdownFiles(root).flatMap((file) => scriptsOf(root, file).map((script) => ({ ...script, file })));

test.each(scripts.map((script) => [script.at, script] as const))("%s is JavaScript that does", async (_, script) => {
  const { at, file, code } = script;
  const folder = join(build, "scripts", at.replaceAll(/[/:]/g, "-"));
  mkdirSync(folder, { recursive: true });
  const main = join(folder, "main.js");
  const compiler = new Bun.Transpiler({ loader: "ts" });
  for (const program of whole) {
    if (!program.at.startsWith(`${file}:`) || program.file === undefined) continue;
    writeFileSync(join(folder, program.file.replace(/ts$/, "js")), compiler.transformSync(program.code));
  }
  writeFileSync(main, code);
  if (/^export default /m.test(code)) {
    // A configuration: what the example of a bundled app has, which is built by it.
    const [said, used] = await Promise.all(
      [main, join(root, "examples/bundled-app/vite.config.js")].map((path) => import(path)),
    );
    expect(used.default).toMatchObject(said.default);
    return;
  }
  const said = expectedLines(code).join("\n");
  expect(said).not.toBe("");
  const printed = await output([process.execPath, main], folder);
  if (!agrees(printed, said)) expect(printed).toBe(said);
});

test("what is said is compared, but for times and what is left out", () => {
  expect(expectedLines('console.log(a); // 5 1.8...: ln 3\nconsole.log("b");\n  console.log(c) // x')).toEqual([
    "5 1.8...",
    "x",
  ]);
  expect([agrees("5 1.898\nx\n", "5 1.8...\nx"), agrees("after 12 ms", "after 340 ms")]).toEqual([true, true]);
  expect([agrees("5 1.798", "5 1.8..."), agrees("5\nx", "5"), agrees("12 s", "13 s")]).toEqual([false, false, false]);
});
