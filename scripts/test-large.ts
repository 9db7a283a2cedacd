// `bun run test:large [FILTER]`: the full sizes of what `bun run test` runs a part of. Takes about an hour; exit code 1
// when any fails.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Glob } from "bun";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const filter = process.argv[2] ?? "";

/** Test files of full size, each with a smaller one beside it that `bun run test` runs. */
const files = [...new Glob("{apps,libs,tests}/**/*.large.ts").scanSync(root)].filter(
  (file) => !file.includes("node_modules"),
);
if (files.length === 0) throw new Error("expected files *.large.ts under apps, libs and tests, but there are none");

const runs: readonly (readonly string[])[] = [
  ...files.sort().map((file) => ["test", `./${file}`]),
  ["run", "check:model", "--thorough"],
  ["run", "test:faults"],
  ["run", "test:faults:deno"],
  ["run", "test:interleavings"],
  ["run", "soak"],
  ["run", "fuzz", "--seconds", "600"],
];

const results: string[] = [];
for (const args of runs.filter((run) => run.join(" ").includes(filter))) {
  console.log(`\n$ bun ${args.join(" ")}`);
  const started = performance.now();
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: "inherit" });
  const seconds = Math.round((performance.now() - started) / 1000);
  results.push(`${status === 0 ? "ok  " : "FAIL"} bun ${args.join(" ")}, ${seconds} s`);
}
console.log(`\n${results.join("\n")}`);
const failed = results.filter((result) => result.startsWith("FAIL")).length;
console.log(`${results.length - failed} passed, ${failed} failed`);
process.exit(failed === 0 && results.length > 0 ? 0 : 1);
