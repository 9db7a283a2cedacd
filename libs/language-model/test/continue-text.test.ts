// The library in both runtimes: the tokens that Hugging Face transformers generates.
import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { denoBinary } from "../../../scripts/deno-binary.ts";
import { greedy } from "./greedy-reference.ts";

setDefaultTimeout(120_000);

const script = fileURLToPath(new URL("./continue-text.ts", import.meta.url));

const deno = [denoBinary(), "run", "--allow-all", "--no-check", "--quiet"];

test.each([
  ["shared", "Bun", [process.execPath]],
  ["shared", "Deno", deno],
  ["own", "Bun", [process.execPath]],
  ["own", "Deno", deno],
] as const)("a text on two ranks over %s memory in %s", (memory, _, command) => {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...command, script, memory], { timeout: 100_000 });
  expect(stderr.toString()).toBe("");
  expect(JSON.parse(stdout.toString())).toEqual([...(greedy[0]?.greedyIds.slice(0, 32) ?? [])]);
  expect(exitCode).toBe(0);
});
