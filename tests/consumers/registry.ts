// A registry of packages on loopback, for one run: it has what is published to it, and everything else from the
// registry that npm is configured with.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { startCommand } from "./run-command.ts";
import { toolFile } from "./tools.ts";

const START_DEADLINE_MS = 30_000;

export interface Registry {
  /** Makes a package that was just published a week old: Deno refuses what is younger than a day. */
  age(name: string): void;
  stop(): void;
}

/**
 * Starts a registry whose files lie in `folder`, which is made.
 *
 * @param address `http://127.0.0.1:PORT/`
 * @param upstream address of the registry that has all other packages
 * @throws Error when it does not answer in time
 */
export async function startRegistry(folder: string, address: string, upstream: string): Promise<Registry> {
  mkdirSync(folder);
  const config = join(folder, "config.yaml");
  writeFileSync(config, configuration(upstream));
  const verdaccio = toolFile("verdaccio/bin/verdaccio");
  // It reaches upstream by the proxies and certificates of this machine: its environment is ours.
  const env = Object.fromEntries(Object.entries(process.env).flatMap(([k, v]) => (v === undefined ? [] : [[k, v]])));
  const command = [process.execPath, verdaccio, "--config", config, "--listen", address.slice(0, -1)] as const;
  const { child, stop } = startCommand([...command], { cwd: folder, env });
  let printed = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      printed = (printed + text).slice(-8000);
    });
  }
  const deadline = performance.now() + START_DEADLINE_MS;
  while (!(await answers(`${address}-/ping`))) {
    if (child.exitCode !== null || child.signalCode !== null || performance.now() > deadline) {
      stop();
      throw new Error(`the registry does not answer at ${address}:\n${printed}`);
    }
    await Bun.sleep(50);
  }
  return { age: (name) => age(join(folder, "storage"), name), stop };
}

const configuration = (upstream: string): string => `
storage: ./storage
auth: { htpasswd: { file: ./htpasswd, max_users: -1 } }
uplinks: { upstream: { url: ${JSON.stringify(upstream)}, timeout: 60s } }
packages:
  "@lockstep/*": { access: $all, publish: $all }
  "**": { access: $all, proxy: upstream }
web: { enable: false }
log: { type: stdout, format: pretty, level: warn }
`;

async function answers(address: string): Promise<boolean> {
  try {
    return (await fetch(address, { signal: AbortSignal.timeout(1000) })).ok;
  } catch {
    return false;
  }
}

/** A port of 127.0.0.1 that nothing uses. */
export async function freePort(): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const server = createServer().once("error", reject);
  server.listen(0, "127.0.0.1", () => {
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    server.close(() => resolve(port));
  });
  return await promise;
}

function age(storage: string, name: string): void {
  const file = join(storage, "@lockstep", name, "package.json");
  const metadata: { time: Record<string, string> } = JSON.parse(readFileSync(file, "utf8"));
  const weekAgo = new Date(Date.now() - 7 * 24 * 3_600_000).toISOString();
  metadata.time = Object.fromEntries(Object.keys(metadata.time).map((what) => [what, weekAgo]));
  writeFileSync(file, JSON.stringify(metadata));
}
