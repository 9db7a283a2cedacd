// node-llama-cpp, llama.cpp for JavaScript with binaries from the npm registry: installed on first use in a folder of
// its own, outside of the workspace.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), "llama-cpp");
const PACKAGE = join(FOLDER, "node_modules/node-llama-cpp");

/** What to import. */
export const LLAMA_CPP_MODULE = pathToFileURL(join(PACKAGE, "dist/index.js")).href;

/** What of node-llama-cpp is used here. */
export interface NodeLlamaCpp {
  getLlama(options: Readonly<Record<string, unknown>>): Promise<Llama>;
}

interface Llama {
  loadModel(options: { readonly modelPath: string }): Promise<LlamaModel>;
  dispose(): Promise<void>;
}

export interface LlamaModel {
  createContext(options: Readonly<Record<string, unknown>>): Promise<{ getSequence(): LlamaSequence }>;
  detokenize(tokens: readonly number[], specialTokens?: boolean, lastTokens?: readonly number[]): string;
}

export interface LlamaSequence {
  clearHistory(): Promise<void>;
  evaluate(tokens: number[], options: Readonly<Record<string, unknown>>): AsyncIterable<number>;
}

/**
 * Returns the versions of node-llama-cpp and llama.cpp. Installs what bench/peer/llama-cpp/bun.lock says where it is
 * missing: from the npm registry alone, running nothing of what it installs.
 */
export function ensureLlamaCpp(): string {
  if (process.platform !== "linux") throw new Error("only binaries for Linux on x64 and arm64 are pinned here");
  const args = ["install", "--cwd", FOLDER, "--frozen-lockfile", "--ignore-scripts", "--omit=optional", "--silent"];
  const { status } = spawnSync(process.execPath, args, { stdio: ["ignore", 2, 2], timeout: 600_000 });
  if (status !== 0) throw new Error(`\`bun ${args.join(" ")}\` failed; its messages are above`);
  const { version } = JSON.parse(readFileSync(join(PACKAGE, "package.json"), "utf8"));
  const { release } = JSON.parse(readFileSync(join(PACKAGE, "llama/binariesGithubRelease.json"), "utf8"));
  return `node-llama-cpp ${version} (llama.cpp ${release})`;
}
