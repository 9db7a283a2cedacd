import { effectModules } from "./effect-modules.ts";

/** Called by the world on every rank. */
export function setup() {
  return { effectModules };
}
