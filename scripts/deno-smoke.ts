// The Deno smoke test: type-checks the libraries and the server as Deno sees them, then compares a world of 4 ranks with
// Bun's, bit by bit.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { denoBinary } from "./deno-binary.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const folder = join(root, "tests/deno");

function run(cwd: string, command: string, args: readonly string[]): string {
  const { status, stdout } = spawnSync(command, args, {
    cwd,
    stdio: ["ignore", "pipe", "inherit"],
    timeout: 120_000,
  });
  if (status !== 0) {
    console.error(`deno smoke test: \`${command} ${args.join(" ")}\` ended with status ${status}`);
    process.exit(1);
  }
  return stdout.toString().trim();
}

const packages = ["tensor", "kernels", "dist-groups", "attention", "shared-gpu", "language-model"].map(
  (name) => `libs/${name}/src/index.ts`,
);
const programs = ["apps/server/src/main-deno.ts", "tests/deno/attention-digest.ts"];
run(root, denoBinary(), ["check", "--quiet", ...packages, ...programs]);
const inDeno = run(folder, denoBinary(), ["run", "--allow-all", "--no-check", "--quiet", "attention-digest.ts"]);
const inBun = run(folder, process.execPath, ["attention-digest.ts"]);
if (inDeno !== inBun || inDeno === "") {
  console.error(`deno smoke test: Deno computed ${inDeno}, Bun ${inBun}`);
  process.exit(1);
}
console.log(`deno smoke test: a world of 4 gives the same bits in Deno and Bun (${inDeno.slice(0, 16)})`);
