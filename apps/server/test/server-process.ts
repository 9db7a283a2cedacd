// A server as a process of its own, in Bun or Deno.
import { denoBinary } from "../../../scripts/deno-binary.ts";

export const RUNTIMES = ["bun", "deno"] as const;
export type Runtime = (typeof RUNTIMES)[number];

/** How a runtime runs a program. */
export function commandOf(runtime: Runtime, program: string, args: readonly string[] = []): string[] {
  if (runtime === "bun") return [process.execPath, program, ...args];
  return [denoBinary(), "run", "-A", "--no-check", "--quiet", "--unstable-no-legacy-abort", program, ...args];
}

export interface ServerProcess extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** Lines of its log, parsed, that have come so far. */
  readonly log: Record<string, unknown>[];
  /** Resolves with the first line of its log, from now or before, for which it is so. */
  logged(isIt: (line: Record<string, unknown>) => boolean): Promise<Record<string, unknown>>;
  /** Reads its log no more: what it writes to it is an error. */
  closeLog(): Promise<void>;
  /** Writes a line to its input. */
  tell(line: string): void;
  kill(signal: "SIGTERM" | "SIGKILL"): void;
  /** Its exit code. */
  readonly exited: Promise<number>;
}

/** Starts a server and waits until it listens. */
export async function startServer(
  runtime: Runtime,
  program: string,
  args: readonly string[] = [],
): Promise<ServerProcess> {
  const child = Bun.spawn(commandOf(runtime, program, args), { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
  const log: Record<string, unknown>[] = [];
  let heard: (() => void)[] = [];
  const wake = (): void => {
    for (const one of heard) one();
    heard = [];
  };
  let hasEnded = false;
  const output = child.stdout.getReader();
  const read = async (): Promise<void> => {
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value: bytes } = await output.read();
      if (done) break;
      const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) log.push(JSON.parse(line));
      wake();
    }
    hasEnded = true;
    wake();
  };
  read();
  const logged = async (isIt: (line: Record<string, unknown>) => boolean): Promise<Record<string, unknown>> => {
    for (;;) {
      const line = log.find(isIt);
      if (line !== undefined) return line;
      if (hasEnded) throw new Error(`the server ended without having said it; it said ${JSON.stringify(log)}`);
      await new Promise<void>((resolve) => heard.push(resolve));
    }
  };
  const { url } = await logged(({ event }) => event === "listening");
  return {
    url: String(url),
    port: Number(new URL(String(url)).port),
    log,
    logged,
    closeLog: () => output.cancel(),
    tell(line) {
      child.stdin.write(`${line}\n`);
      child.stdin.flush();
    },
    kill: (signal) => child.kill(signal),
    exited: child.exited,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

/** The scripted server. */
export const SCRIPTED = new URL("scripted-server.ts", import.meta.url).pathname;
