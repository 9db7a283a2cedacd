// `bun scripts/run-in-deno.ts FILE [ARGUMENTS]`: runs a TypeScript file of the workspace in the Deno that it installs.
import { spawnSync } from "node:child_process";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { denoBinary } from "./deno-binary.ts";

const [file, ...args] = process.argv.slice(2);
if (file === undefined) {
  console.error("run-in-deno: give a file to run, as in `bun scripts/run-in-deno.ts examples/world/main.ts`");
  process.exit(2);
}
const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const command = ["run", "--allow-all", "--no-check", "--quiet", resolve(root, file), ...args];
const { status, error } = spawnSync(denoBinary(), command, { cwd: root, stdio: "inherit" });
if (error !== undefined) console.error(`run-in-deno: ${error.message}`);
process.exit(status ?? 1);
