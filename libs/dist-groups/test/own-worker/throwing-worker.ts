// A worker whose module throws before it is a rank.
import { runRank } from "@lockstep/dist-groups/rank";
import * as program from "../fault-program.ts";

if (performance.now() >= 0) throw new Error("thrown at import");
runRank(program);
