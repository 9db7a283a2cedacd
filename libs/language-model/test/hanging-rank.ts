// The module of a worker of the test's own: a rank of an engine, the last of which hangs when it is given a certain
// prompt.
import type { RankContext } from "@lockstep/dist-groups";
import { runRank } from "@lockstep/dist-groups/rank";
import * as engine from "../src/engine/engine-program.ts";
import type { ServeChanges } from "../src/engine/request-server.ts";

/** The prompt, of two tokens, that the last rank does not come back from. */
const HANGS = [7, 7];

runRank({
  setup: async (context: RankContext, options: engine.EngineRankOptions) => {
    const methods = await engine.setup(context, options);
    const serve: typeof methods.serve = (changes: ServeChanges, ...rest) => {
      const isLast = context.rank === context.size - 1;
      if (isLast && changes.submit.some(({ prompt }) => prompt.join() === HANGS.join())) {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60_000);
      }
      return methods.serve(changes, ...rest);
    };
    return { ...methods, serve };
  },
});
