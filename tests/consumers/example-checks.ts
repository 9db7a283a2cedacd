// The folders of examples/, copied out of the repository: each does what its README says, by the commands that it says,
// with packages from the registry.
import { cpSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { talkToAttentionServer } from "../attention-server/check-attention-server.ts";
import { agrees } from "../readme-snippets/snippets.ts";
import type { Check } from "./checks.ts";
import type { Consumer, Lab } from "./lab.ts";
import { ROOT } from "./pack.ts";
import { startCommand } from "./run-command.ts";

const examples = join(ROOT, "examples");
const LEFT_OUT = /\.test\.ts$|(^|\/)(node_modules|dist)(\/|$)/;
const SERVER_DEADLINE_MS = 60_000;

export function exampleChecks(lab: Lab): Check[] {
  const folders = readdirSync(examples, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return folders.map(({ name }) => ({ name: `examples/${name}, by its README`, run: () => follow(lab, name) }));
}

/** Follows the README of an example: installs, runs, and compares with what it says. */
async function follow(lab: Lab, name: string): Promise<string> {
  const consumer = lab.consumer(`example-${name}`);
  const from = join(examples, name);
  cpSync(from, consumer.folder, { recursive: true, filter: (path) => !LEFT_OUT.test(path.slice(from.length)) });
  const readme = readFileSync(join(consumer.folder, "README.md"), "utf8");
  const commands = (/\n\n((?: {4}\S.*\n)+)/.exec(readme)?.[1] ?? "").split("\n").flatMap((line) => line.trim() || []);
  const run = commands.pop();
  if (run === undefined) throw new Error(`expected commands in the README of examples/${name}, but found none`);
  for (const command of commands) await consumer.run(command);
  if (/^prints `[^`]*http:/m.test(readme)) {
    await checkServer(lab, consumer, run);
    return [...commands, run].join("; ");
  }
  const [, said] = /\bprints\b[^`]*:\n\n```\n(.*?)^```$/ms.exec(readme) ?? [];
  if (said === undefined) throw new Error(`expected the README of examples/${name} to say what is printed`);
  // The same in another runtime, where the README says so.
  const others = [...readme.matchAll(/\bor `((?:bun|deno|node) [^`]+)`/g)].flatMap(([, command]) => command ?? []);
  for (const command of [run, ...others]) compare(command, await consumer.run(command), said);
  return [...commands, run, ...others].join("; ");
}

/** How lists are broken into lines depends on the runtime. */
function compare(command: string, printed: string, said: string): void {
  const [found = "", wanted = ""] = [printed, said].map((text) => text.replace(/\s+/g, " "));
  if (!agrees(found, wanted)) throw new Error(`\`${command}\` printed\n${printed}\nwhere its README says\n${said}`);
}

/** Starts a server at a port of its own choice, talks to it, and ends it as an operator does. */
async function checkServer(lab: Lab, { folder }: Consumer, commandLine: string): Promise<void> {
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
    await talkToAttentionServer(found);
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
