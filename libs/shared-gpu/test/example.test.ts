// The example of the README, which is examples/: two ranks on one device.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

setDefaultTimeout(120_000);

const own = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

test("the README shows the example as it is", () => {
  const readme = readFileSync(own("../README.md"), "utf8");
  for (const name of ["program", "main"]) {
    expect(readme).toContain(`\`\`\`ts\n${readFileSync(own(`../examples/${name}.ts`), "utf8")}\`\`\``);
  }
});

test("two ranks deal the tokens among them and attend on a software adapter", () => {
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, own("../examples/main.ts"), "software"]);
  expect(stderr.toString()).toBe("");
  expect(stdout.toString()).toBe('[ "6 tokens held, attention 0.5", "5 tokens held, attention 0.5" ]\n');
  expect(exitCode).toBe(0);
});
