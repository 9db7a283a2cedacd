/**
 * Ranks of generators and engines in workers of a program's own, which bundlers ask for.
 *
 * @module @lockstep/language-model/rank
 */

import { runRank } from "@lockstep/dist-groups/rank";
import * as program from "./engine/every-program.ts";

/**
 * Makes this worker a rank of a `Generator` or an `Engine`. For the module of a worker that is given to their `open` as
 * `worker`:
 *
 *     import { runGeneratorRank } from "@lockstep/language-model/rank";
 *     runGeneratorRank();
 *
 * @throws RankMisplaced outside a worker, and the second time
 */
export function runGeneratorRank(): void {
  runRank(program);
}
