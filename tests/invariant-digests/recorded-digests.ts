import { readFileSync } from "node:fs";

/** Where the digests of the wasm backend are recorded, a line each. */
export const RECORDED = new URL("./digests.txt", import.meta.url);

/** The recorded digests, in the order of the cases. */
export function recordedDigests(): string[] {
  return readFileSync(RECORDED, "utf8").trim().split("\n");
}
