import { createRequire } from "node:module";

/** How many modules of Effect this thread has loaded. */
export function effectModules(): number {
  return Object.keys(createRequire(import.meta.url).cache).filter((path) => path.includes("/node_modules/effect/"))
    .length;
}
