import { afterAll, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { PUBLISHED } from "../build-packages/published.ts";
import { changeset } from "./changeset.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const copy = mkdtempSync(join(tmpdir(), "lockstep-release-"));
afterAll(() => rmSync(copy, { recursive: true }));

const read = (file: string): string => readFileSync(join(copy, file), "utf8");

test("one change makes a version of all packages, on npm and JSR, with a changelog", () => {
  const manifests = execFileSync("git", ["ls-files", "package.json", "*/package.json", "*/deno.json"], { cwd: root });
  for (const file of ["bun.lock", ".changeset/config.json", ...manifests.toString().trim().split("\n")]) {
    mkdirSync(dirname(join(copy, file)), { recursive: true });
    cpSync(join(root, file), join(copy, file));
  }
  writeFileSync(join(copy, ".changeset/quick-ranks.md"), '---\n"@lockstep/tensor": minor\n---\n\nSay it with ranks.\n');
  const git = (...args: string[]): unknown => execFileSync("git", args, { cwd: copy });
  git("init", "--quiet", "--initial-branch", "main");
  git("add", "--all");
  git("-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--message", "Begin");

  changeset(copy, ["version"]);

  expect(existsSync(join(copy, ".changeset/quick-ranks.md"))).toBe(false);
  const versions = new Set<string>();
  for (const { folder } of PUBLISHED) {
    const { version, dependencies = {} } = JSON.parse(read(`${folder}/package.json`));
    versions.add(version);
    expect(JSON.parse(read(`${folder}/deno.json`)).version).toBe(version);
    expect(read(`${folder}/CHANGELOG.md`)).toContain(`## ${version}`);
    for (const [name, range] of Object.entries(dependencies)) {
      if (name.startsWith("@lockstep/")) expect(`${name}@${range}`).toBe(`${name}@${version}`);
    }
  }
  expect(read("libs/tensor/CHANGELOG.md")).toContain("Say it with ranks.");
  const before = JSON.parse(readFileSync(join(root, "libs/tensor/package.json"), "utf8")).version;
  expect([...versions]).toEqual([
    before.replace(/\.(\d+)\.\d+$/, (_: string, minor: string) => `.${Number(minor) + 1}.0`),
  ]);
});

test("every package of JSR has the version of npm, and the same entries", () => {
  for (const { folder } of PUBLISHED) {
    const npm = JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8"));
    const jsr = JSON.parse(readFileSync(join(root, folder, "deno.json"), "utf8"));
    expect([jsr.name, jsr.version, jsr.license]).toEqual([npm.name, npm.version, npm.license]);
    for (const [entry, source] of Object.entries<string>(jsr.exports)) {
      if (entry === "./cli") continue;
      expect(npm.exports[entry]?.default).toBe(source.replace("./src/", "./dist/").replace(/\.ts$/, ".js"));
      expect(npm.exports[entry]?.types).toBe(source.replace("./src/", "./dist/").replace(/\.ts$/, ".d.ts"));
    }
    const entries = Object.keys(npm.exports).filter((entry) => entry !== "./package.json");
    expect(
      Object.keys(jsr.exports)
        .filter((entry) => entry !== "./cli")
        .sort(),
    ).toEqual(entries.sort());
  }
});
