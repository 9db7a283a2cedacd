// Consumers that install by the line of the READMEs and run in Bun, Deno and Node 22.
import { strictEqual } from "node:assert/strict";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Check, once } from "./checks.ts";
import type { Expected } from "./expected.ts";
import type { Lab } from "./lab.ts";

const MOST_BYTES = 10 * 1024 * 1024;
/** Deno lets a program import what it has added, and not what came with that. */
const PACKAGES = ["attention", "dist-groups", "kernels", "tensor"];
const KERNEL_PRINTS = "[ 0.75, 1.25 ] 1.3862943649291992\n";
const FILES = ["installed-main.ts", "rank-program.ts", "run-world.ts"];

export function installedChecks(lab: Lab, expected: Expected): Check[] {
  const inBun = once(async () => {
    const consumer = lab.consumer("bun", FILES);
    await consumer.run("bun add @lockstep/attention");
    return consumer;
  });
  return [
    {
      name: "Bun: bun add @lockstep/attention, and a world of 4",
      run: async () => expected.same(await (await inBun()).run("bun installed-main.ts")),
    },
    { name: "Bun: what is installed is small", run: async () => checkSize((await inBun()).folder) },
    {
      name: "Deno: deno add, a kernel that may do nothing, and a world of 4 that may read its folder alone",
      run: async () => {
        const consumer = lab.consumer("deno", [...FILES, "kernel.ts"]);
        await consumer.run(`deno add ${PACKAGES.map((name) => `npm:@lockstep/${name}`).join(" ")}`);
        strictEqual(await consumer.run("deno run --no-prompt kernel.ts"), KERNEL_PRINTS);
        expected.same(await consumer.run("deno run --no-prompt --allow-read=. installed-main.ts"));
      },
    },
    {
      name: "Node 22: npm install @lockstep/attention, and a world of 4 from plain JavaScript",
      run: async () => {
        const consumer = lab.consumer("node");
        await consumer.run("npm install @lockstep/attention");
        await lab.addJavaScript(consumer, FILES);
        expected.same(await consumer.run("node installed-main.js"));
      },
    },
  ];
}

function checkSize(folder: string): string {
  const modules = join(folder, "node_modules");
  let bytes = 0;
  for (const name of readdirSync(modules, { recursive: true, encoding: "utf8" })) {
    const status = statSync(join(modules, name));
    if (status.isFile()) bytes += status.size;
  }
  const size = `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  if (bytes > MOST_BYTES)
    throw new Error(`node_modules of @lockstep/attention takes ${size}: at most 10 were promised`);
  const unwanted = ["webgpu", "effect"].filter((name) => existsSync(join(modules, name)));
  if (unwanted.length > 0) throw new Error(`${unwanted.join(" and ")} came with @lockstep/attention: ${size} in all`);
  return size;
}
