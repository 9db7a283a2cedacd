import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { ASYNC_CASES } from "../libs/dist-groups/test/async-cases.ts";
import { FAULTS } from "../libs/dist-groups/test/fault-matrix.ts";
import { OWN_WORKER_CASES } from "../libs/dist-groups/test/own-worker/own-worker-cases.ts";
import { denoBinary } from "../scripts/deno-binary.ts";

setDefaultTimeout(300_000);

const script = fileURLToPath(new URL("../libs/dist-groups/test/run-faults.ts", import.meta.url));

describe("the fault matrix in Deno", () => {
  let lines: readonly string[] = [];
  beforeAll(async () => {
    const command = [denoBinary(), "run", "--allow-all", "--no-check", "--quiet", script];
    const deno = Bun.spawn(command, { stdout: "pipe", stderr: "inherit", timeout: 240_000 });
    lines = (await new Response(deno.stdout).text()).split("\n");
    await deno.exited;
  });

  for (const { name, sizes } of [...FAULTS, ...OWN_WORKER_CASES, ...ASYNC_CASES]) {
    test.each([...sizes])(`${name}, %i ranks`, (size) => {
      const start = `${name}, ${size} ranks`;
      const found = lines.findIndex((line) => line.startsWith(`ok    ${start}`) || line.startsWith(`FAIL  ${start}`));
      // What follows a FAIL says why.
      expect(lines.slice(found, found + 12).join("\n")).toStartWith("ok    ");
    });
  }
});
