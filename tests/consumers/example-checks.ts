// The folders of examples/, copied out of the repository: each does what its README says, by the commands that it says,
// with packages from the registry.
import { cpSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { talkToAttentionServer } from "../attention-server/check-attention-server.ts";
import { agrees } from "../readme-snippets/snippets.ts";
import type { Check } from "./checks.ts";
import { openPage } from "./chromium.ts";
import { withServer } from "./example-server.ts";
import type { Consumer, Lab } from "./lab.ts";
import { ROOT } from "./pack.ts";

const examples = join(ROOT, "examples");
const LEFT_OUT = /\.test\.ts$|(^|\/)(node_modules|dist)(\/|$)/;
const PAGE_DEADLINE_MS = 60_000;

/** @param chromium path of Chromium, which may have to be installed */
export function exampleChecks(lab: Lab, chromium: Promise<string>): Check[] {
  const folders = readdirSync(examples, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return folders.map(({ name }) => ({
    name: `examples/${name}, by its README`,
    run: () => follow(lab, name, chromium),
  }));
}

/** Follows the README of an example: installs, runs, and compares with what it says. */
async function follow(lab: Lab, name: string, chromium: Promise<string>): Promise<string> {
  const consumer = lab.consumer(`example-${name}`);
  const from = join(examples, name);
  cpSync(from, consumer.folder, { recursive: true, filter: (path) => !LEFT_OUT.test(path.slice(from.length)) });
  const readme = readFileSync(join(consumer.folder, "README.md"), "utf8");
  const commands = (/\n\n((?: {4}\S.*\n)+)/.exec(readme)?.[1] ?? "").split("\n").flatMap((line) => line.trim() || []);
  const run = commands.pop();
  if (run === undefined) throw new Error(`expected commands in the README of examples/${name}, but found none`);
  for (const command of commands) await consumer.run(command);
  if (/^prints `[^`]*http:/m.test(readme)) {
    const [, shown] = /The page shows (.*?)\n\n/s.exec(readme) ?? [];
    await withServer(lab, consumer.folder, run, async (address) =>
      shown === undefined ? talkToAttentionServer(address) : checkPage(await chromium, address, quoted(shown)),
    );
    return [...commands, run].join("; ");
  }
  const [, said] = /\bprints\b[^`]*:\n\n```\n(.*?)^```$/ms.exec(readme) ?? [];
  if (said === undefined) throw new Error(`expected the README of examples/${name} to say what is printed`);
  // The same in another runtime, where the README says so.
  const others = [...readme.matchAll(/\bor `((?:bun|deno|node) [^`]+)`, prints/g)].flatMap(
    ([, command]) => command ?? [],
  );
  for (const command of [run, ...others]) compare(command, await consumer.run(command), said);
  const built = await checkBundlers(consumer, readme, said);
  return [...commands, run, ...others, ...built].join("; ");
}

/** What stands between backticks. */
const quoted = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].flatMap(([, inside]) => inside ?? []);

/** Waits until a page shows all of these texts. */
async function checkPage(chromium: string, address: string, shown: readonly string[]): Promise<void> {
  await openPage(chromium, address, async (page) => {
    const deadline = performance.now() + PAGE_DEADLINE_MS;
    for (;;) {
      const text = String(await page.evaluate("document.body.innerText"));
      if (shown.length > 0 && shown.every((part) => text.includes(part))) return;
      if (performance.now() > deadline) throw new Error(`expected a page that shows ${shown}, but found ${text}`);
      await Bun.sleep(50);
    }
  });
}

/** Runs the rows of a table of bundlers: `| name | command | what runs the file that it makes |`. */
async function checkBundlers(consumer: Consumer, readme: string, said: string): Promise<string[]> {
  const [, table = ""] = /^\| bundler \|.*\n\|[ |-]+\n((?:\|.*\n)+)/m.exec(readme) ?? [];
  const ran: string[] = [];
  let runners: string[] = [];
  for (const row of table.split("\n").filter((line) => line !== "")) {
    const [, , command = "", runs = ""] = row.split("|");
    for (const build of quoted(command)) await consumer.run(build);
    const named = quoted(runs);
    const file = named.pop() ?? "";
    if (!runs.trim().startsWith("the same")) runners = named;
    for (const line of runners.length === 0 ? [file] : runners.map((runner) => `${runner} ${file}`)) {
      compare(line, await consumer.run(line), said);
      ran.push(line);
    }
  }
  return ran;
}

/** How lists are broken into lines depends on the runtime. */
function compare(command: string, printed: string, said: string): void {
  const [found = "", wanted = ""] = [printed, said].map((text) => text.replace(/\s+/g, " "));
  // A script may say what it builds before it runs that.
  const leading = /^bun (start|run)\b/.test(command) ? "..." : "";
  if (!agrees(found, `${leading}${wanted}`))
    throw new Error(`\`${command}\` printed\n${printed}\nwhere its README says\n${said}`);
}
