import type { Lab } from "./lab.ts";
import { startCommand } from "./run-command.ts";

const SERVER_DEADLINE_MS = 120_000;

/** Starts a server at a port of its own choice, uses it, and ends it as an operator does. */
export async function withServer(
  lab: Lab,
  folder: string,
  commandLine: string,
  use: (address: string) => Promise<void>,
): Promise<void> {
  const [command = "", ...args] = commandLine.replace(/^PORT=\d+ /, "").split(" ");
  const { child, stop } = startCommand([command, ...args], { cwd: folder, env: { ...lab.env, PORT: "0" } });
  const ended = Promise.withResolvers<number | null>();
  child.once("error", ended.reject).once("close", (code) => ended.resolve(code));
  let printed = "";
  const address = new Promise<string>((resolve) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        printed += text;
        const [found] = /http:\S+(?=\s)/.exec(printed) ?? [];
        if (found !== undefined) resolve(found);
      });
    }
  });
  const timer = setTimeout(stop, SERVER_DEADLINE_MS);
  try {
    const found = await Promise.race([address, ended.promise]);
    if (typeof found !== "string") throw new Error(`the server ended with ${found} before it said its address`);
    await use(found);
    child.kill("SIGTERM");
    const code = await ended.promise;
    if (code !== 0) throw new Error(`the server ended with ${code} after SIGTERM`);
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : error}; \`${commandLine}\` printed:\n${printed}`);
  } finally {
    clearTimeout(timer);
    stop();
  }
}
