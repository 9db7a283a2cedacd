// TypeDoc, which reads TypeScript by TypeScript 6, and so is installed in this folder, beside the workspace's
// TypeScript 7.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { entryPoints } from "./entry-points.ts";
import type { Reflection } from "./reflection.ts";

const own = dirname(fileURLToPath(import.meta.url));

/** Installs TypeDoc, unless it is there. */
export function installTypedoc(): void {
  const args = ["install", "--cwd", own, "--frozen-lockfile", "--silent"];
  const { status } = spawnSync(process.execPath, args, { stdio: ["ignore", 2, 2] });
  if (status !== 0) throw new Error(`\`bun ${args.join(" ")}\` failed; its messages are above`);
}

/** Runs TypeDoc over all published modules of `root` with these options. @throws Error when it fails */
function typedoc(root: string, options: Readonly<Record<string, unknown>>): void {
  const folder = mkdtempSync(join(tmpdir(), "lockstep-typedoc-"));
  try {
    const file = join(folder, "typedoc.json");
    const all = {
      name: "Lockstep",
      basePath: root,
      entryPoints: entryPoints(root).map(({ source }) => join(root, source)),
      tsconfig: join(root, "tsconfig.json"),
      // `bun run typecheck` has found errors of types; reflection.ts is looked through for all that is missing.
      skipErrorChecking: true,
      validation: { notExported: false, invalidLink: false, invalidPath: false, notDocumented: false },
      excludePrivate: true,
      excludeInternal: true,
      excludeExternals: true,
      highlightLanguages: ["bash", "css", "html", "javascript", "json", "python", "tsx", "typescript"],
      disableGit: true,
      sourceLinkTemplate: "https://github.com/lockstep-dcp/lockstep/blob/main/{path}#L{line}",
      ...options,
    };
    writeFileSync(file, JSON.stringify(all));
    const bin = join(own, "node_modules/typedoc/bin/typedoc");
    const args = [bin, "--options", file, "--logLevel", "Warn"];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8" });
    if (status !== 0) throw new Error(`typedoc ended with status ${status}: ${stdout}${stderr}`);
    const said = `${stdout}${stderr}`.trim();
    if (said !== "") console.error(said);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Everything that is published, as TypeDoc reads it. */
export function readReflections(root: string): Reflection {
  const folder = mkdtempSync(join(tmpdir(), "lockstep-reference-"));
  try {
    const json = join(folder, "reference.json");
    typedoc(root, { json, pretty: false });
    return JSON.parse(readFileSync(json, "utf8"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Writes the reference as pages to the folder `out`. */
export function writePages(root: string, out: string): void {
  const pages = { readme: join(root, "README.md"), projectDocuments: [join(root, "docs/*.md")] };
  typedoc(root, { out, cleanOutputDir: true, ...pages });
}
