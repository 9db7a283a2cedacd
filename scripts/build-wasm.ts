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
  {
    sources: "libs/language-model/src",
    entry: "libs/language-model/src/layers/layers.as.ts",
    output: "libs/language-model/build/layers.wasm",
  },
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

/** The modules whose sources changed since they were built, or that were never built. */
export function staleModules(): { entry: string; output: string; fingerprint: string }[] {
  return MODULES.map(({ sources, entry, output }) => ({
    entry,
    output,
    fingerprint: fingerprint(join(root, sources)),
  })).filter(({ output, fingerprint }) => {
    const stamp = join(root, `${output}.sha256`);
    const built = existsSync(join(root, output)) && existsSync(stamp);
    return !built || readFileSync(stamp, "utf8") !== fingerprint;
  });
}

async function build(): Promise<void> {
  const { main: asc } = await import("assemblyscript/asc");
  for (const { entry, output, fingerprint } of staleModules()) {
    mkdirSync(dirname(join(root, output)), { recursive: true });
    const { error, stderr } = await asc([entry, "--baseDir", root, "--outFile", output, ...FLAGS]);
    if (error !== null) {
      console.error(`cannot compile ${entry}:\n${stderr.toString()}`);
      process.exit(1);
    }
    writeFileSync(join(root, `${output}.sha256`), fingerprint);
    console.error(`built ${output}`);
  }
}

if (import.meta.main) await build();
