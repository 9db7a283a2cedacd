// Before a package is packed: sets the clone up and builds. Plain JavaScript, so that npm on a machine without Bun can
// begin: Bun is then fetched from npm, in the version that package.json names.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const { packageManager } = JSON.parse(readFileSync(`${root}/package.json`, "utf8"));
const run = (command, args) =>
  spawnSync(command, args, { cwd: root, stdio: ["ignore", 2, 2], shell: process.platform === "win32" });
const args = ["run", "--silent", "build", ...process.argv.slice(2)];
const own = process.versions.bun === undefined ? "bun" : process.execPath;
let result = run(own, args);
if (result.error?.code === "ENOENT") result = run("npx", ["-y", packageManager, ...args]);
if (result.error !== undefined) console.error(`prepack: ${result.error.message}`);
process.exit(result.status ?? 1);
