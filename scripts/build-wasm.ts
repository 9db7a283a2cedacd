// Compiles every AssemblyScript module of the workspace, skipping those whose sources have not changed since.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Every module: the package folder that holds its `*.as.ts` sources, its entry, and where it goes. */
const MODULES = [
  {
    sources: "libs/kernels/src",
    entry: "libs/kernels/src/wasm/kernels.as.ts",
    output: "libs/kernels/build/kernels.wasm",
  },
  {
    sources: "libs/dist-groups/src",
    entry: "libs/dist-groups/src/reduction/reduce.as.ts",
    output: "libs/dist-groups/build/reduce.wasm",
  },
  { sources: "apps/demo/src", entry: "apps/demo/src/layers/layers.as.ts", output: "apps/demo/build/layers.wasm" },
] as const;

const FLAGS = [
  "--enable",
  "simd,threads",
  "--sharedMemory",
  "--importMemory",
  "--initialMemory",
  "1",
  "--maximumMemory",
  "65535",
  "--runtime",
  "stub",
  "--use",
  "abort=",
  "--optimizeLevel",
  "3",
  "--shrinkLevel",
  "0",
  "--converge",
  "--noAssert",
];

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/** Hash of a module's AssemblyScript sources and the compiler flags: unchanged hash, unchanged output. */
function fingerprint(folder: string): string {
  const hash = createHash("sha256").update(FLAGS.join(" "));
  for (const file of readdirSync(folder, { recursive: true, encoding: "utf8" }).sort()) {
    if (file.endsWith(".as.ts")) hash.update(file).update(readFileSync(join(folder, file)));
  }
  return hash.digest("hex");
}

/** Builds what is out of date; returns the outputs that were built. Throws with the compiler's message on an error. */
export async function buildWasm(): Promise<string[]> {
  const built: string[] = [];
  for (const { sources, entry, output } of MODULES) {
    const stamp = join(root, `${output}.sha256`);
    const wanted = fingerprint(join(root, sources));
    const current = existsSync(join(root, output)) && existsSync(stamp) ? readFileSync(stamp, "utf8") : "";
    if (current === wanted) continue;
    const { main: asc } = await import("assemblyscript/asc");
    mkdirSync(dirname(join(root, output)), { recursive: true });
    const { error, stderr } = await asc([entry, "--baseDir", root, "--outFile", output, ...FLAGS]);
    if (error !== null) throw new Error(`cannot compile ${entry}:\n${stderr.toString()}`);
    writeFileSync(stamp, wanted);
    built.push(output);
  }
  return built;
}

if (import.meta.main) for (const output of await buildWasm()) console.log(`built ${output}`);
