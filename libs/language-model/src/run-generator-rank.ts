/**
 * Ranks of generators and engines in workers of a program's own, which bundlers ask for.
 *
 * @module @lockstep/language-model/rank
 */

import type { RankContext } from "@lockstep/dist-groups";
import { runRank } from "@lockstep/dist-groups/rank";
import * as engine from "./engine/engine-program.ts";
import type { RankOptions } from "./generation/rank-options.ts";
import * as program from "./generation/rank-program.ts";
import * as trial from "./generation/trial-program.ts";

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
  runRank({
    setup: (context: RankContext, options: RankOptions | engine.EngineRankOptions | trial.TrialOptions) => {
      if ("isTrial" in options) return trial.setup(context, options);
      return "maxRunning" in options ? engine.setup(context, options) : program.setup(context, options);
    },
  });
}
