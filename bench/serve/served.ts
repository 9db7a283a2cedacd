// The server as a process of its own, as `bun run serve` starts it.
import { fileURLToPath } from "node:url";
import { denoBinary } from "../../scripts/deno-binary.ts";

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

/** What to start. */
export interface ServeOptions {
  readonly runtime: "bun" | "deno";
  /** Of the server. */
  readonly args: readonly string[];
  /** Whether it can be asked what lives in it: it runs in live-memory/server.ts then. */
  readonly tellsLive?: boolean;
}

/** A line of the server's log. */
interface LogLine {
  readonly event: string;
  readonly url?: string;
  readonly bytes?: readonly number[];
  readonly failure?: string;
}

/** What /health tells. */
interface Health {
  readonly running: number;
  readonly waiting: number;
  readonly kv_blocks: { readonly used: number; readonly cached: number };
}

export interface Served extends AsyncDisposable {
  readonly url: string;
  health(): Promise<Health>;
  /** Bytes of memory that the process holds. */
  residentBytes(): Promise<number>;
  /** Bytes that live in the server's thread and in each rank's, once their garbage has been collected. */
  liveBytes(): Promise<readonly number[]>;
}

function commandOf({ runtime, tellsLive = false }: ServeOptions): string[] {
  const own = path("./live-memory/server.ts");
  if (runtime === "bun") return [process.execPath, tellsLive ? own : path("../../apps/server/src/main.ts")];
  const deno = [denoBinary(), "run", "-A", "--no-check", "--quiet", "--unstable-no-legacy-abort"];
  if (!tellsLive) return [...deno, path("../../apps/server/src/main-deno.ts")];
  const flags = ["--unstable-broadcast-channel", "--v8-flags=--expose-gc", "--config", path("../../deno.json")];
  return [...deno, ...flags, own];
}

/** Servers that have not ended. They would outlive this process when it is told to end. */
const running = new Set<ReturnType<typeof Bun.spawn>>();
for (const [signal, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const) {
  process.on(signal, () => {
    for (const child of running) child.kill("SIGKILL");
    process.exit(code);
  });
}

/** Starts a server and waits until it listens. */
export async function serve(options: ServeOptions): Promise<Served> {
  const command = [...commandOf(options), "--port", "0", ...options.args];
  const child = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
  running.add(child);
  const waiting = new Map<string, PromiseWithResolvers<LogLine>>();
  const next = (event: string): Promise<LogLine> => {
    const line = Promise.withResolvers<LogLine>();
    waiting.set(event, line);
    return line.promise;
  };
  const listening = next("listening");
  const read = async (): Promise<void> => {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const bytes of child.stdout) {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const text of lines) {
        // Of requests there are many.
        if (waiting.size === 0 || text.includes('"event":"request"')) continue;
        const line: LogLine = JSON.parse(text);
        waiting.get(line.event)?.resolve(line);
        waiting.delete(line.event);
      }
    }
    for (const { reject } of waiting.values()) reject(new Error("the server ended"));
  };
  read();
  const { url = "" } = await listening;
  return {
    url,
    health: async () => (await fetch(`${url}/health`)).json(),
    async residentBytes() {
      const text = await (await fetch(`${url}/metrics`)).text();
      return Number(/^process_resident_memory_bytes (\S+)/m.exec(text)?.[1]);
    },
    async liveBytes() {
      const told = next("live_memory");
      child.stdin.write("collect\n");
      child.stdin.flush();
      const { bytes, failure } = await told;
      if (bytes === undefined) throw new Error(`the server's live memory: ${failure}`);
      return bytes;
    },
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await child.exited;
      running.delete(child);
    },
  };
}
