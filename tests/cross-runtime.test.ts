import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { denoBinary } from "../scripts/deno-binary.ts";

setDefaultTimeout(120_000);

const folder = fileURLToPath(new URL("./deno", import.meta.url));

function output(command: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { cwd: folder, timeout: 100_000 });
  if (exitCode !== 0) throw new Error(`${command.join(" ")} ended with ${exitCode}: ${stderr}`);
  return stdout.toString().trim();
}

test("a world of 4 gives the same bits in Deno and in Bun", () => {
  const inBun = output([process.execPath, "attention-digest.ts"]);
  const inDeno = output([denoBinary(), "run", "--allow-all", "--no-check", "--quiet", "attention-digest.ts"]);
  expect(inBun).toMatch(/^[0-9a-f]{64}$/);
  expect(inDeno).toBe(inBun);
});
