// The server as a process of its own, as `bun run serve` starts it.
import { fileURLToPath } from "node:url";
import { denoBinary } from "../../scripts/deno-binary.ts";

const program = (name: string): string => fileURLToPath(new URL(`../../apps/server/src/${name}`, import.meta.url));

export interface Served extends AsyncDisposable {
  readonly url: string;
  /** What /health tells. */
  health(): Promise<{ readonly running: number; readonly waiting: number; readonly kv_blocks: { used: number } }>;
  /** Bytes of memory that the process holds. */
  residentBytes(): Promise<number>;
}

/** Starts a server and waits until it listens. */
export async function serve(runtime: "bun" | "deno", args: readonly string[]): Promise<Served> {
  const command =
    runtime === "bun"
      ? [process.execPath, program("main.ts")]
      : [denoBinary(), "run", "-A", "--no-check", "--unstable-no-legacy-abort", program("main-deno.ts")];
  const child = Bun.spawn([...command, "--port", "0", ...args], { stdout: "pipe", stderr: "inherit" });
  const listening = Promise.withResolvers<string>();
  const read = async (): Promise<void> => {
    let log = "";
    const decoder = new TextDecoder();
    for await (const bytes of child.stdout) {
      if (log === "done") continue;
      log += decoder.decode(bytes, { stream: true });
      const [, url] = /"event":"listening","url":"(.*?)"/.exec(log) ?? [];
      if (url === undefined) continue;
      log = "done";
      listening.resolve(url);
    }
    listening.reject(new Error(`the server ended before it listened: ${log}`));
  };
  read();
  const url = await listening.promise;
  return {
    url,
    health: async () => (await fetch(`${url}/health`)).json(),
    async residentBytes() {
      const text = await (await fetch(`${url}/metrics`)).text();
      return Number(/^process_resident_memory_bytes (\S+)/m.exec(text)?.[1]);
    },
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await child.exited;
    },
  };
}
