/**
 * Ranks of generators in workers of a program's own, which bundlers ask for.
 *
 * @module @lockstep/language-model/rank
 */

import type { RankContext } from "@lockstep/dist-groups";
import { runRank } from "@lockstep/dist-groups/rank";
import type { RankOptions } from "./rank-options.ts";
import * as program from "./rank-program.ts";
import * as trial from "./trial-program.ts";

/**
 * Makes this worker a rank of a `Generator`. For the module of a worker that is given to `Generator.open` as
 * `worker`:
 *
 *     import { runGeneratorRank } from "@lockstep/language-model/rank";
 *     runGeneratorRank();
 *
 * @throws RankMisplaced outside a worker, and the second time
 */
export function runGeneratorRank(): void {
  runRank({
    setup: (context: RankContext, options: RankOptions | trial.TrialOptions) =>
      "isTrial" in options ? trial.setup(context, options) : program.setup(context, options),
  });
}
