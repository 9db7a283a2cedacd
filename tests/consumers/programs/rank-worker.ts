// The module of a worker whose code a bundler has put together.
import { runRank } from "@lockstep/dist-groups/rank";
import * as program from "./rank-program.ts";

runRank(program);
