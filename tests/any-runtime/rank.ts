// The module of the check's workers.
import { runRank } from "@lockstep/dist-groups/rank";
import * as program from "./program.ts";

runRank(program);
