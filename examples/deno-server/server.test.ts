import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { denoBinary } from "../../scripts/deno-binary.ts";
import { checkAttentionServer } from "../../tests/attention-server/check-attention-server.ts";

setDefaultTimeout(120_000);

test("it has the right types in Deno", () => {
  const { exitCode, stderr } = Bun.spawnSync([denoBinary(), "check", "--quiet", "server.ts"], { cwd: import.meta.dir });
  expect([exitCode, stderr.toString()]).toEqual([0, ""]);
});

test("sequences decode as attention in float64, wrong requests are refused, and it ends when told to", async () => {
  const allowed = ["--allow-net", "--allow-env=PORT", "--allow-read"];
  const command = [denoBinary(), "run", "--no-check", "--quiet", "--no-prompt", ...allowed, "server.ts"];
  expect(await checkAttentionServer(command, import.meta.dir)).toBe(0);
});

test("its ranks run what those of the server in Bun run", () => {
  const program = (folder: string): string => readFileSync(`${import.meta.dir}/../${folder}/program.ts`, "utf8");
  expect(program("deno-server")).toBe(program("bun-server"));
});
