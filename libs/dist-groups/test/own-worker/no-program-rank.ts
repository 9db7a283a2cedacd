// A worker whose program has no `setup`.
import { runRank } from "@lockstep/dist-groups/rank";
import * as program from "../until-in.ts";

runRank(program as never);
