// Child processes that cannot be left behind: each leads a process group of its own, which is killed at its deadline
// and when the consumer tests end, however they end.
import { type ChildProcess, spawn } from "node:child_process";

/** How to run a command. */
export interface CommandOptions {
  readonly cwd: string;
  /** The whole environment of the command: nothing is inherited. */
  readonly env: Readonly<Record<string, string>>;
  /** Milliseconds after which it is killed. Default 60 000. */
  readonly deadlineMs?: number;
  /** Whether what it prints to stderr is returned as well. */
  readonly withErrors?: boolean;
}

const running = new Set<number>();

/** Kills all commands under way, with their children. */
export function killCommands(): void {
  for (const pid of running) killGroup(pid);
}

/** Has a process group that something else has started killed as well; returns what kills it. */
export function addRunning(pid: number | undefined): () => void {
  if (pid !== undefined) running.add(pid);
  return () => {
    if (pid !== undefined && running.delete(pid)) killGroup(pid);
  };
}

/**
 * Starts a command that goes on until it is killed, by `stop` or by {@link killCommands}.
 *
 * @returns the process, whose stdout and stderr are pipes, and what ends it
 */
export function startCommand(
  command: readonly [string, ...string[]],
  { cwd, env }: CommandOptions,
): { readonly child: ChildProcess; readonly stop: () => void } {
  const [file, ...args] = command;
  const child = spawn(file, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"], detached: true });
  return { child, stop: addRunning(child.pid) };
}

/**
 * Runs a command to its end.
 *
 * @returns what it printed to stdout
 * @throws Error with all that it printed, when it cannot start, fails, or runs past its deadline
 */
export async function runCommand(command: readonly [string, ...string[]], options: CommandOptions): Promise<string> {
  const { child, stop } = startCommand(command, options);
  const deadlineMs = options.deadlineMs ?? 60_000;
  let [stdout, all] = ["", ""];
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    all += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    all += text;
    if (options.withErrors) stdout += text;
  });
  const ended = Promise.withResolvers<string | undefined>();
  child.once("error", ({ message }) => ended.resolve(`could not start: ${message}`));
  child.once("close", (code, signal) =>
    ended.resolve(code === 0 ? undefined : `ended with ${signal ?? `code ${code}`}`),
  );
  const timer = setTimeout(() => ended.resolve(`did not end within ${deadlineMs} ms`), deadlineMs);
  const failure = await ended.promise;
  clearTimeout(timer);
  // Also what a command that has ended well has left behind.
  stop();
  if (failure === undefined) return stdout;
  throw new Error(`\`${command.join(" ")}\` in ${options.cwd} ${failure}:\n${all.slice(-8000).trimEnd()}`);
}

/** Kills a process and its children. */
function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // All of it has ended.
  }
}
