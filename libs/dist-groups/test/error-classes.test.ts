import { expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { Glob } from "bun";

const root = fileURLToPath(new URL("../../../", import.meta.url));

test("every typed error of the repository joins the classes that errors from other threads are of", async () => {
  const missing: string[] = [];
  let found = 0;
  for await (const file of new Glob("{libs,apps}/*/src/**/*.ts").scan({ cwd: root })) {
    if (file.endsWith(".test.ts")) continue;
    const text = await readFile(`${root}${file}`, "utf8");
    for (const [, name = ""] of text.matchAll(/^(?:export )?class (\w+) extends LockstepError\b/gm)) {
      found++;
      if (name === "RemoteError") continue;
      const joins = text.includes(`registerErrorClass("${name}", ${name})`) && text.includes(`_tag = "${name}"`);
      if (!joins) missing.push(`${name} in ${file}`);
    }
  }
  expect(missing).toEqual([]);
  expect(found).toBeGreaterThan(20);
});
