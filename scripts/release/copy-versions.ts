import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PUBLISHED } from "../build-packages/published.ts";

/** Gives every published package's `deno.json`, which JSR reads, the version of its `package.json`. */
export function copyVersions(root: string): void {
  for (const { folder } of PUBLISHED) {
    const { version } = JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8"));
    const file = join(root, folder, "deno.json");
    if (!existsSync(file)) throw new Error(`${folder} has no deno.json`);
    const text = readFileSync(file, "utf8");
    writeFileSync(file, text.replace(/"version": "[^"]*"/, `"version": "${version}"`));
  }
}
