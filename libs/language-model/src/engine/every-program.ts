// What a rank in a worker of a caller's own runs: whichever program the host's options are for.
import type { RankContext } from "@lockstep/dist-groups";
import type { RankOptions } from "../generation/rank-options.ts";
import * as generator from "../generation/rank-program.ts";
import * as trial from "../generation/trial-program.ts";
import * as engine from "./engine-program.ts";

/** Sets up a rank of a generator, of an engine, or of a trial. */
export function setup(context: RankContext, options: RankOptions | engine.EngineRankOptions | trial.TrialOptions) {
  if ("isTrial" in options) return trial.setup(context, options);
  return "maxRunning" in options ? engine.setup(context, options) : generator.setup(context, options);
}
