// Brings a fresh clone to the state in which everything runs: packages, WebAssembly modules, with --software-vulkan a
// software Vulkan driver for the WebGPU tests, and with --mpi OpenMPI and MPICH for the tests of MPI. Does nothing when
// all is in place.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { staleModules } from "./build-wasm.ts";
import { readCommandLine } from "./command-line.ts";
import { ensureMpi } from "./mpi.ts";
import { ensureSoftwareVulkan } from "./software-vulkan.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const installedStamp = join(root, "node_modules/.lockstep-setup");

const { values } = readCommandLine({
  name: "setup",
  does: "Installs packages and compiles WebAssembly kernels, where either is out of date.",
  options: {
    quiet: { type: "boolean", default: false, help: "say nothing where nothing is to be done" },
    "software-vulkan": { type: "boolean", default: false, help: "also a software GPU, for tests" },
    mpi: { type: "boolean", default: false, help: "also OpenMPI and MPICH, for tests" },
  },
});

/** Hash of everything that decides what is installed. */
function packagesFingerprint(): string {
  const hash = createHash("sha256");
  const manifests = ["libs", "apps"].flatMap((group) =>
    readdirSync(join(root, group))
      .sort()
      .map((name) => join(group, name, "package.json")),
  );
  for (const file of ["package.json", "bun.lock", ...manifests]) {
    if (existsSync(join(root, file))) hash.update(file).update(readFileSync(join(root, file)));
  }
  return hash.digest("hex");
}

function run(what: string, args: readonly string[]): void {
  console.error(`setup: ${what}`);
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: ["ignore", 2, 2] });
  if (status !== 0) {
    console.error(`setup: \`bun ${args.join(" ")}\` failed; its messages are above`);
    process.exit(1);
  }
}

const wanted = packagesFingerprint();
if (!existsSync(installedStamp) || readFileSync(installedStamp, "utf8") !== wanted) {
  run("installing packages", ["install", "--frozen-lockfile", "--silent"]);
  writeFileSync(installedStamp, wanted);
}
if (staleModules().length > 0) run("compiling WebAssembly kernels", ["scripts/build-wasm.ts"]);
for (const [isWanted, ensure] of [
  [values["software-vulkan"], ensureSoftwareVulkan],
  [values.mpi, ensureMpi],
] as const) {
  if (!isWanted) continue;
  try {
    ensure();
  } catch (error) {
    console.error(`setup: ${error instanceof Error ? error.message : String(error)}`);
    process.exit(1);
  }
}
if (!values.quiet) console.log("setup: ready");
