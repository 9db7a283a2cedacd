import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";

setDefaultTimeout(120_000);

const script = fileURLToPath(new URL("./open-and-close.ts", import.meta.url));

test.each([
  ["closed worlds", []],
  ["worlds that did not open", ["fail"]],
] as const)("%s leave neither memory nor listeners behind", (_, args) => {
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, script, ...args], { timeout: 100_000 });
  expect([exitCode, stderr.toString()]).toEqual([0, ""]);
  const { first, last, listeners }: { first: number; last: number; listeners: number } = JSON.parse(stdout.toString());
  // Each world touched 64 MiB: ten that stayed would be 640 MiB.
  expect(last - first).toBeLessThan(200 << 20);
  expect(listeners).toBe(0);
});
