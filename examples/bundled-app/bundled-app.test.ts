// By Bun's bundler. What the other bundlers make of it the consumer tests run, which install them.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

setDefaultTimeout(120_000);

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "lockstep-bundle-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

test("a world of 4 runs from the two files of a bundle, where no package is", async () => {
  const entrypoints = ["main.ts", "worker.ts"].map((name) => join(import.meta.dir, name));
  const { success } = await Bun.build({ entrypoints, target: "bun", outdir: folder });
  expect(success).toBe(true);
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, "main.js"], { cwd: folder });
  expect([exitCode, stdout.toString(), stderr.toString()]).toEqual([0, "[ 3, 3, 3, 2 ]\n", ""]);
});
