/**
 * Ranks in workers of a program's own, which bundlers ask for.
 *
 * @module @lockstep/dist-groups/rank
 */

import { ArgumentError, describe } from "@lockstep/tensor";
import { RankMisplaced } from "../errors/errors.ts";
import { openHostPort } from "./host-port.ts";
import { hasSetup } from "./program-module.ts";
import type { Program } from "./rank-context.ts";
import { serveRank } from "./serve-rank.ts";

export type { Program, RankContext } from "./rank-context.ts";

let hasRun = false;

/**
 * Makes this worker a rank that runs `program`. For the module of a worker that `openWorld({ worker })` starts:
 *
 *     import { runRank } from "@lockstep/dist-groups/rank";
 *     import * as program from "./program.ts";
 *     runRank(program);
 *
 * Call it once, synchronously while the module is run: the host waits until then, and messages are heard from then on.
 * @throws ArgumentError unless the program has a function `setup`; RankMisplaced outside a worker, and the second time
 */
export function runRank(program: Program): void {
  const found: unknown = program;
  if (!hasSetup(found)) {
    throw new ArgumentError("runRank", "program", "a module that exports a function `setup`", describe(found));
  }
  const host = openHostPort();
  if (host === undefined) throw new RankMisplaced("outside a worker");
  if (hasRun) throw new RankMisplaced("a second time in the same worker");
  hasRun = true;
  serveRank(host, async () => ({ name: "the program of runRank", module: found }));
}
