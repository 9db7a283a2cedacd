import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Path of the Deno binary that the workspace installs, without the npm package's launcher (which needs Node). */
export function denoBinary(): string {
  const platforms = join(dirname(fileURLToPath(import.meta.url)), "../node_modules/@deno");
  for (const platform of existsSync(platforms) ? readdirSync(platforms) : []) {
    for (const name of ["deno", "deno.exe"]) {
      const path = join(platforms, platform, name);
      if (existsSync(path)) return path;
    }
  }
  throw new Error("Deno is not installed: run `bun install` in the workspace's root.");
}
