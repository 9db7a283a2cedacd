import { strictEqual } from "node:assert/strict";
import type { WorldResults } from "./programs/run-world.ts";

/** What worlds compute, by the first of them that ended: all others must have the same bits. */
export class Expected {
  #first: WorldResults | undefined;

  /** The results in what a program printed, compared bit by bit with those of others. */
  same(printed: string): WorldResults {
    const line = printed.trim().split("\n").at(-1) ?? "";
    const results: WorldResults = JSON.parse(line);
    if (new Set(results.collectives).size !== 4 || results.attention.length !== 8 * 32) {
      throw new Error(`expected the results of 4 ranks with 8 heads, but found ${line}`);
    }
    if (results.attention.some((number) => number === 0 || !Number.isFinite(number))) {
      throw new Error(`expected finite numbers of attention, but found ${line}`);
    }
    this.#first ??= results;
    strictEqual(JSON.stringify(results), JSON.stringify(this.#first), "two runtimes computed different bits");
    return results;
  }
}
