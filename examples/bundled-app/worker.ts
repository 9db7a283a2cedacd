// The module of the ranks' workers: a bundler sees here what they run.
import { runRank } from "@lockstep/dist-groups/rank";
import * as program from "./program.ts";

runRank(program);
