import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { denoBinary } from "../../scripts/deno-binary.ts";

setDefaultTimeout(120_000);

const printed = /prints:\n\n```\n(.*?)```/s.exec(readFileSync(`${import.meta.dir}/README.md`, "utf8"))?.[1];

test("the kernel prints what the README says, in Bun and in Deno", () => {
  for (const command of [[process.execPath], [denoBinary(), "run", "-A", "--no-check", "--quiet"]]) {
    const { stdout, stderr } = Bun.spawnSync([...command, "kernel.ts"], { cwd: import.meta.dir });
    expect([stdout.toString(), stderr.toString()]).toEqual([printed ?? "", ""]);
  }
});
