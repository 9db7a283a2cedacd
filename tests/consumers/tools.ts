// The tools that the consumer tests run, at pinned versions, in a folder beside the workspace: registry, bundlers,
// linters of packages, older TypeScript, npm and Node 22.
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runCommand } from "./run-command.ts";

const folder = join(dirname(fileURLToPath(import.meta.url)), "tools");

/** Settings of this machine: how it reaches its registry, and the registry itself. */
const env = process.env as Readonly<Record<string, string>>;

/** Installs the tools, unless they are there. */
export async function installTools(): Promise<void> {
  const command = [process.execPath, "install", "--frozen-lockfile", "--silent"] as const;
  await runCommand([...command], { cwd: folder, env, deadlineMs: 300_000 });
}

/** Address of the registry that npm is configured with, with a slash at the end. */
export async function upstreamRegistry(): Promise<string> {
  const command = [nodeBinary(), toolFile("npm/bin/npm-cli.js"), "config", "get", "registry"] as const;
  const address = (await runCommand([...command], { cwd: folder, env })).trim();
  return address.endsWith("/") ? address : `${address}/`;
}

/** Path of a file of a tool's package. @throws Error when it is not installed */
export function toolFile(path: string): string {
  const file = join(folder, "node_modules", path);
  if (!existsSync(file)) throw new Error(`${path} is not installed: tests/consumers/tools lacks it`);
  return file;
}

/** Path of the Node 22 of this platform. @throws Error where npm has none, or tools/package.json does not list it */
export function nodeBinary(): string {
  return toolFile(`node-${process.platform}-${process.arch}/bin/node`);
}
