// Bundlers for browsers fail on, or fill in, what a page does not have: no library names a module of a runtime in an
// import.
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Glob } from "bun";

const root = fileURLToPath(new URL("../..", import.meta.url));
const LIBRARIES = ["tensor", "kernels", "dist-groups", "attention", "shared-gpu", "language-model"];
const TEST_CODE = /\.(test|large|worker)\.ts$|(^|\/)testing\//;

/** The modules of runtimes that a file imports by name, types left aside. */
function runtimeModules(code: string): string[] {
  const names = "((?:node|bun|jsr|npm):[^\"']*)";
  const statement = `^(?:(?:import|export)\\b(?! type\\b)[^;"'()=]*?\\bfrom |import )["']${names}["']`;
  const imports = code.matchAll(new RegExp(statement, "gm"));
  return [...imports].map(([, name = ""]) => name);
}

test.each(LIBRARIES)("%s imports no module of a runtime", (name) => {
  const folder = join(root, "libs", name, "src");
  const files = [...new Glob("**/*.ts").scanSync(folder)].filter((file) => !TEST_CODE.test(file));
  expect(files.length).toBeGreaterThan(1);
  const found = files.flatMap((file) => {
    return runtimeModules(readFileSync(join(folder, file), "utf8")).map((imported) => `${file}: ${imported}`);
  });
  expect(found).toEqual([]);
});

test("such imports are found", () => {
  expect(runtimeModules('import { readFileSync } from "node:fs";\nimport "bun:ffi";')).toEqual(["node:fs", "bun:ffi"]);
  expect(runtimeModules('import {\n  a,\n  b,\n} from "node:os";\nexport * from "node:path";')).toEqual([
    "node:os",
    "node:path",
  ]);
  expect(
    runtimeModules('import type { Stats } from "node:fs";\nconst x = load<typeof import("node:fs")>("node:fs");'),
  ).toEqual([]);
});
