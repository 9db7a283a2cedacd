// The plain face and the ranks load nothing of Effect. That the count is one is shown by the Effect face.
import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";

setDefaultTimeout(120_000);

const script = fileURLToPath(new URL("./loaded-modules.ts", import.meta.url));

function loaded(face: string): { readonly host: number; readonly ranks: readonly number[] } {
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, script, face], { timeout: 100_000 });
  expect([exitCode, stderr.toString()]).toEqual([0, ""]);
  return JSON.parse(stdout.toString());
}

test("a world of the plain face loads no Effect, neither on the host nor on the ranks", () => {
  expect(loaded("plain")).toEqual({ host: 0, ranks: [0, 0] });
});

test("a world of the Effect face loads it on the host alone", () => {
  const { host, ranks } = loaded("effect");
  expect(host).toBeGreaterThan(10);
  expect(ranks).toEqual([0, 0]);
});
