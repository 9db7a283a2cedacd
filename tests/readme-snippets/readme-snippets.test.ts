// Every block of TypeScript in the project's Markdown is checked by one run of the compiler, and run. A block that is a
// file of examples/ is that file, whose own test runs it.
import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { CONTEXTS } from "./contexts.ts";
import { agrees, exampleFiles, expectedLines, markdownFiles, type Snippet, snippetsOf } from "./snippets.ts";

setDefaultTimeout(120_000);

const root = fileURLToPath(new URL("../..", import.meta.url));
/** Within the workspace, so that imports lead to its packages, and ignored. */
const build = join(root, "build/readme-snippets");
const examples = exampleFiles(root);

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
      return { ...snippet, path: join(build, markdown.replaceAll("/", "-"), `${part}`, name) };
    });
}

const programs = markdownFiles(root).flatMap(programsOf);
const isModule = ({ code }: Snippet): boolean => /^export /m.test(code);
const whole = programs.filter(({ context }) => context === undefined);
/** Programs of ranks that no other block opens a world of. */
const unopened = whole.filter(
  (program) =>
    /^export (async )?function setup\b/m.test(program.code) &&
    !whole.some((other) => dirname(other.path) === dirname(program.path) && other.code.includes("openWorld")),
);

beforeAll(() => {
  rmSync(build, { recursive: true, force: true });
  for (const { path, code, context = "" } of programs) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, `${CONTEXTS[context] ?? ""}${code}\nexport {};\n`);
  }
  const compilerOptions = { noUnusedLocals: false, noUnusedParameters: false };
  writeFileSync(
    join(build, "tsconfig.json"),
    JSON.stringify({ extends: "../../tsconfig.json", compilerOptions, include: ["."], exclude: [] }),
  );
});

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

test("what is said is compared, but for times and what is left out", () => {
  expect(expectedLines('console.log(a); // 5 1.8...: ln 3\nconsole.log("b");\n  console.log(c) // x')).toEqual([
    "5 1.8...",
    "x",
  ]);
  expect([agrees("5 1.898\nx\n", "5 1.8...\nx"), agrees("after 12 ms", "after 340 ms")]).toEqual([true, true]);
  expect([agrees("5 1.798", "5 1.8..."), agrees("5\nx", "5"), agrees("12 s", "13 s")]).toEqual([false, false, false]);
});
