import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";

setDefaultTimeout(60_000);

test("closed worlds give their memory back", () => {
  const script = fileURLToPath(new URL("./open-and-close.ts", import.meta.url));
  const { exitCode, stdout } = Bun.spawnSync([process.execPath, script], { timeout: 50_000 });
  expect(exitCode).toBe(0);
  const { first, last }: { first: number; last: number } = JSON.parse(stdout.toString());
  // Each world touched 64 MiB: ten that stayed would be 640 MiB.
  expect(last - first).toBeLessThan(200 << 20);
});
