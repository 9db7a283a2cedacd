// `bun run changeset [COMMAND]`: versions and changelogs, by changesets, installed in this folder. Without a command it
// asks what has changed; `version` takes what was said into versions and changelogs, those of JSR too; `status` tells.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { copyVersions } from "./copy-versions.ts";

const own = dirname(fileURLToPath(import.meta.url));

/** Runs a command of changesets over the workspace at `root`. @throws Error when it fails */
export function changeset(root: string, args: readonly string[]): void {
  const install = ["install", "--cwd", own, "--frozen-lockfile", "--silent"];
  run(own, install);
  run(root, [join(own, "node_modules/@changesets/cli/bin.js"), ...args]);
  if (args[0] === "version") copyVersions(root);
}

function run(cwd: string, args: readonly string[]): void {
  const { status } = spawnSync(process.execPath, args, { cwd, stdio: "inherit" });
  if (status !== 0) throw new Error(`\`bun ${args.join(" ")}\` failed; its messages are above`);
}

if (import.meta.main) {
  const args = process.argv.slice(2);
  try {
    changeset(join(own, "../.."), args);
    if (args[0] === "version") run(join(own, "../.."), ["install"]);
  } catch (error) {
    console.error(`changeset: ${error instanceof Error ? error.message : String(error)}`);
    process.exit(1);
  }
}
