// What the reference is of: the modules that the libraries publish.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { PACKAGES } from "../dependency-check/layers.ts";

interface Manifest {
  readonly name: string;
  readonly exports?: Readonly<Record<string, string | { readonly default?: string }>>;
}

export interface EntryPoint {
  /** As it is imported. */
  readonly specifier: string;
  /** Its source, from the root. */
  readonly source: string;
}

/**
 * Every module that a library's package.json exports: `dist/x.js` is built from `src/x.ts`. Libraries come before those
 * that stand on them: what several export is described where it comes from.
 */
export function entryPoints(root: string): EntryPoint[] {
  return Object.keys(PACKAGES)
    .filter((folder) => folder.startsWith("libs/") && existsSync(join(root, folder)))
    .flatMap((folder) => {
      const manifest: Manifest = JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8"));
      return Object.entries(manifest.exports ?? {}).flatMap(([path, target]) => {
        const file = typeof target === "string" ? target : target.default;
        const [, built] = /^\.\/dist\/(.*)\.js$/.exec(file ?? "") ?? [];
        if (built === undefined) return [];
        return { specifier: manifest.name + path.slice(1), source: `${folder}/src/${built}.ts` };
      });
    });
}
