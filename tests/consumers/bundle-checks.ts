// Consumers that are bundled or compiled, and run apart from the packages that they were made of.
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type Check, once } from "./checks.ts";
import type { Expected } from "./expected.ts";
import type { Consumer, Lab } from "./lab.ts";
import { toolFile } from "./tools.ts";

const FILES = ["bundled-main.ts", "rank-worker.ts", "rank-program.ts", "run-world.ts"];
const ENTRIES = "bundled-main.ts rank-worker.ts";

export function bundleChecks(lab: Lab, expected: Expected): Check[] {
  const source = once(async () => {
    const consumer = lab.consumer("bundle", FILES);
    await consumer.run("bun add @lockstep/attention");
    return consumer;
  });
  /** Moves what was built into a folder without packages, and runs it. */
  const runAlone = async (built: string, name: string, commandLines: readonly string[]): Promise<void> => {
    const alone = lab.consumer(name);
    cpSync(built, alone.folder, { recursive: true });
    rmSync(built, { recursive: true });
    for (const commandLine of commandLines) expected.same(await alone.run(commandLine));
  };
  return [
    {
      name: "Bun's bundler: a world of 4 from two files",
      run: async () => {
        const { run, folder } = await source();
        await run(`bun build ${ENTRIES} --target=bun --outdir=built-by-bun`);
        await runAlone(join(folder, "built-by-bun"), "bundled-by-bun", ["bun bundled-main.js"]);
      },
    },
    {
      name: "bun build --compile: a world of 4 from one file",
      run: async () => {
        const { run, folder } = await source();
        await run(`bun build --compile ${ENTRIES} --outfile=compiled/app`);
        await runAlone(join(folder, "compiled"), "compiled-by-bun", ["./app"]);
      },
    },
    {
      name: "esbuild: a world of 4 from two files, in Bun, Deno and Node 22",
      run: async () => {
        const { run, folder } = await source();
        const options = "--bundle --format=esm --target=es2022 --out-extension:.js=.js";
        await run(`node ${toolFile("esbuild/bin/esbuild")} ${ENTRIES} ${options} --outdir=built-by-esbuild`);
        await runAlone(join(folder, "built-by-esbuild"), "bundled-by-esbuild", [
          "bun bundled-main.js",
          "deno run --no-prompt --allow-read=. bundled-main.js",
          "node bundled-main.js",
        ]);
      },
    },
  ];
}

const PAGE = ["page.html", "page.ts", "rank-worker.ts", "rank-program.ts", "run-world.ts"];
const TEXT_PAGE = ["text-page.html", "text-page.ts", "generator-rank.ts"];

/** The page of worlds, built by Vite: its files alone. */
export const buildPage = (lab: Lab): Promise<Consumer> => buildByVite(lab, "page", PAGE, "attention");

/** The page that continues text, built by Vite. */
export const buildTextPage = (lab: Lab): Promise<Consumer> =>
  buildByVite(lab, "text-page", TEXT_PAGE, "language-model");

async function buildByVite(lab: Lab, name: string, files: readonly string[], uses: string): Promise<Consumer> {
  const consumer = lab.consumer(name, [...files, "vite.config.js"]);
  await consumer.run(`bun add @lockstep/${uses}`);
  await consumer.run(`node ${toolFile("vite/bin/vite.js")} build`);
  const alone = lab.consumer(`${name}-alone`);
  cpSync(join(consumer.folder, "dist"), alone.folder, { recursive: true });
  return alone;
}
