// A worker that is made a rank twice.
import { runRank } from "@lockstep/dist-groups/rank";
import * as program from "../fault-program.ts";

runRank(program);
runRank(program);
