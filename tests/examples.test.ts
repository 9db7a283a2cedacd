// Every folder of examples/ is a tiny workspace of its own, which can be copied out of the repository.
import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Glob, semver } from "bun";

const root = fileURLToPath(new URL("../examples", import.meta.url));
const folders = readdirSync(root, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? entry.name : []));

const versions = new Map(
  ["libs", "apps"].flatMap((group) =>
    readdirSync(join(root, "..", group)).map((name): [string, string] => {
      const manifest = JSON.parse(readFileSync(join(root, "..", group, name, "package.json"), "utf8"));
      return [manifest.name, manifest.version];
    }),
  ),
);

test.each(folders)("%s", (folder) => {
  const files = [...new Glob("**/*.{ts,js,html}").scanSync(join(root, folder))].filter(
    (file) => !/node_modules|(^|\/)dist\//.test(file),
  );
  expect(files.filter((file) => file.endsWith(".test.ts")).length).toBeGreaterThan(0);
  const {
    dependencies = {},
    private: isPrivate,
    scripts,
  } = JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8"));
  expect([isPrivate, typeof scripts.start]).toEqual([true, "string"]);
  for (const [name, range] of Object.entries<string>(dependencies)) {
    const version = versions.get(name);
    if (version !== undefined) expect([name, semver.satisfies(version, range)]).toEqual([name, true]);
    else expect([name, range]).toEqual([name, expect.stringMatching(/^\d+\.\d+\.\d+$/)]);
  }
  const imported = files
    .filter((file) => !file.endsWith(".test.ts"))
    .flatMap((file) => {
      const code = readFileSync(join(root, folder, file), "utf8");
      return [...code.matchAll(/\b(?:from|import)\s*\(?"([^"]+)"/g)].map(([, path = ""]) => ({ file, path }));
    });
  for (const { file, path } of imported) {
    if (path.startsWith(".")) {
      expect(join(folder, file, "..", path).startsWith(`${folder}/`)).toBe(true);
    } else if (!/^(node|bun):/.test(path)) {
      const [name = ""] = /^(@[^/]+\/)?[^/]+/.exec(path) ?? [];
      expect(Object.keys(dependencies)).toContain(name);
    }
  }
});

test("the README lists them", () => {
  const readme = readFileSync(join(root, "../README.md"), "utf8");
  for (const folder of folders) expect(readme).toContain(`(examples/${folder})`);
  expect(existsSync(join(root, "README.md"))).toBe(false);
});
