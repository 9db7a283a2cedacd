// `bun run test:consumers`: what strangers get of the packages. Packs their tarballs, publishes them to a registry of
// its own, and has consumers in folders of their own install them by the lines of the READMEs, run, bundle, compile and
// type-check them. `bun run test:consumers WORD...`: the checks alone whose names have one of the words.
import { join } from "node:path";
import process from "node:process";
import { bundleChecks } from "./bundle-checks.ts";
import { runChecks } from "./checks.ts";
import { ensureChromium } from "./ensure-chromium.ts";
import { exampleChecks } from "./example-checks.ts";
import { Expected } from "./expected.ts";
import { installedChecks } from "./installed-checks.ts";
import { Lab } from "./lab.ts";
import { type Packed, packAll } from "./pack.ts";
import { pageChecks } from "./page-checks.ts";
import { readmeChecks } from "./readme-checks.ts";
import { freePort, type Registry, startRegistry } from "./registry.ts";
import { killCommands } from "./run-command.ts";
import { tarballChecks } from "./tarball-checks.ts";
import { servePageChecks } from "../serve-page/page-checks.ts";
import { installTools, upstreamRegistry } from "./tools.ts";
import { typeChecks } from "./type-checks.ts";

/** Publishes the tarballs, as `bun publish` does. */
async function publish(lab: Lab, registry: Registry, packed: readonly Packed[]): Promise<void> {
  const publisher = lab.consumer("publisher");
  await Bun.write(join(publisher.folder, "package.json"), "{}");
  for (const { name, tarballs } of packed) {
    await publisher.run(`bun publish ${tarballs.npm}`);
    registry.age(name);
  }
}

/** Says how long a part of the set-up took. */
async function timed<T>(what: string, part: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const result = await part();
  console.log(`       ${what} [${((performance.now() - started) / 1000).toFixed(1)} s]`);
  return result;
}

async function testConsumers(lab: Lab, address: string, words: readonly string[]): Promise<boolean> {
  const chromium = ensureChromium();
  // The check that needs it waits for it, and fails where it failed.
  chromium.catch(() => undefined);
  const [packed, registry] = await Promise.all([
    timed("built and packed", () => packAll(lab)),
    timed("registry started", () => startRegistry(join(lab.folder, "registry"), address, lab.upstream)),
  ]);
  await timed("published", () => publish(lab, registry, packed));
  const expected = new Expected();
  const all = [
    ...installedChecks(lab, expected),
    ...readmeChecks(lab),
    ...pageChecks(lab, expected, chromium),
    ...servePageChecks(chromium),
    ...bundleChecks(lab, expected),
    ...exampleChecks(lab, chromium),
    ...typeChecks(lab, packed),
    ...tarballChecks(lab, packed),
  ];
  const wanted = words.length === 0 ? all : all.filter(({ name }) => words.some((word) => name.includes(word)));
  const { passed, failed } = await runChecks(wanted);
  console.log(
    `\n ${passed} pass\n ${failed} fail\nRan ${words.length === 0 ? "all" : wanted.length} of ${all.length} checks of consumers.`,
  );
  return passed > 0 && failed === 0;
}

const started = performance.now();
await timed("tools installed", installTools);
const [port, upstream] = await Promise.all([freePort(), upstreamRegistry()]);
const address = `http://127.0.0.1:${port}/`;
const lab = new Lab(address, upstream);
const cleanUp = (): void => {
  killCommands();
  lab.remove();
};
for (const [signal, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
] as const) {
  process.on(signal, () => {
    cleanUp();
    process.exit(code);
  });
}
let hasPassed = false;
try {
  hasPassed = await testConsumers(lab, address, process.argv.slice(2));
} catch (error) {
  console.error(`test:consumers: ${error instanceof Error ? error.message : String(error)}`);
} finally {
  cleanUp();
}
console.log(`Took ${((performance.now() - started) / 1000).toFixed(0)} s.`);
process.exit(hasPassed ? 0 : 1);
