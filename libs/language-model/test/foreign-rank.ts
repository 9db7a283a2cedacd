// The module of a worker of the test's own: a rank, but none of a generator.
import { runRank } from "@lockstep/dist-groups/rank";

runRank({ setup: () => ({ metrics: () => "mine" }) });
