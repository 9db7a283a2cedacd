// `bun run test:page`: the server's page in Chromium. `bun run test:page WORD...`: the checks alone whose names have
// one of the words. `bun run page-pictures`: takes the pictures of it in docs/ anew.
import process from "node:process";
import { runChecks } from "../consumers/checks.ts";
import { withBrowser } from "../consumers/chromium.ts";
import { ensureChromium } from "../consumers/ensure-chromium.ts";
import { killCommands } from "../consumers/run-command.ts";
import { installTools } from "../consumers/tools.ts";
import { servePageChecks } from "./page-checks.ts";
import { writePictures } from "./pictures.ts";
import { startStoryServer } from "./story-server.ts";

async function main(words: readonly string[]): Promise<boolean> {
  await installTools();
  const chromium = ensureChromium();
  if (words[0] === "--write-pictures") {
    await using server = await startStoryServer({});
    const lines = await withBrowser(await chromium, [], (browser) => writePictures(browser, server));
    console.log(lines.join("\n"));
    return true;
  }
  // The check that needs it waits for it, and fails where it failed.
  chromium.catch(() => undefined);
  const all = servePageChecks(chromium);
  const wanted = words.length === 0 ? all : all.filter(({ name }) => words.some((word) => name.includes(word)));
  const { passed, failed } = await runChecks(wanted);
  console.log(`\n ${passed} pass\n ${failed} fail`);
  return passed > 0 && failed === 0;
}

process.on("SIGINT", () => {
  killCommands();
  process.exit(130);
});
let hasPassed = false;
try {
  hasPassed = await main(process.argv.slice(2));
} finally {
  killCommands();
}
process.exit(hasPassed ? 0 : 1);
