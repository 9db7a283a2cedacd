// Compiles every AssemblyScript module of the workspace, skipping those whose sources have not changed since, into
// TypeScript modules that hold the WebAssembly as text: nothing is read at run time, wherever they run.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Every module: the package folder that holds its `*.as.ts` sources, its entry, and the constant of its output. */
const MODULES = [
  {
    sources: "libs/kernels/src",
    entry: "libs/kernels/src/wasm/kernels.as.ts",
    output: "libs/kernels/src/wasm/kernels.wasm.ts",
    constant: "KERNELS_WASM",
  },
  {
    sources: "libs/dist-groups/src",
    entry: "libs/dist-groups/src/reduction/reduce.as.ts",
    output: "libs/dist-groups/src/reduction/reduce.wasm.ts",
    constant: "REDUCE_WASM",
  },
  {
    sources: "libs/language-model/src",
    entry: "libs/language-model/src/layers/layers.as.ts",
    output: "libs/language-model/src/layers/layers.wasm.ts",
    constant: "LAYERS_WASM",
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

interface WasmModule {
  readonly entry: string;
  readonly output: string;
  readonly constant: string;
  /** First line of the output: which sources it was built from. */
  readonly stamp: string;
}

/** The modules whose sources changed since they were built, or that were never built. */
export function staleModules(): WasmModule[] {
  return MODULES.map(({ sources, entry, output, constant }) => ({
    entry,
    output,
    constant,
    stamp: `// Built by scripts/build-wasm.ts from sources with the hash ${fingerprint(join(root, sources))}.\n`,
  })).filter(({ output, stamp }) => {
    const file = join(root, output);
    return !existsSync(file) || !readFileSync(file, "utf8").startsWith(stamp);
  });
}

async function build(): Promise<void> {
  const { main: asc } = await import("assemblyscript/asc");
  for (const { entry, output, constant, stamp } of staleModules()) {
    let code: Uint8Array | undefined;
    const writeFile = (name: string, contents: Uint8Array | string): void => {
      if (name.endsWith(".wasm") && typeof contents !== "string") code = contents;
    };
    const args = [entry, "--baseDir", root, "--outFile", "module.wasm", ...FLAGS];
    const { error, stderr } = await asc(args, { writeFile });
    if (error !== null || code === undefined) {
      console.error(`cannot compile ${entry}:\n${stderr.toString()}`);
      process.exit(1);
    }
    const text = Buffer.from(code).toString("base64");
    writeFileSync(
      join(root, output),
      `${stamp}/** WebAssembly of ${entry}, in base64. */\nexport const ${constant} = "${text}";\n`,
    );
    console.error(`built ${output}`);
  }
}

if (import.meta.main) await build();
