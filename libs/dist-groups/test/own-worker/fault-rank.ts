// The module of a worker of the test's own: a rank with the program of the fault matrix.
import { runRank } from "@lockstep/dist-groups/rank";
import * as program from "../fault-program.ts";

runRank(program);
